import BlockDevices
import Connectors
import LinuxSystem
import Reactor
import ScriptedDevices
import SharedMemory
import TestSupport
import VhostUser
import VirtioWire

@testable import VirtioBlock

/// What a driver accepts.
enum RingKind: CaseIterable, Sendable {
    case split, splitWithEvents, packed, packedWithEvents

    var features: VirtioFeatures {
        switch self {
        case .split: [.version1, VirtioFeatures.Block.flush, VirtioFeatures.Block.discard]
        case .splitWithEvents: RingKind.split.features.union(.eventIndex)
        case .packed: RingKind.split.features.union(.packedRing)
        case .packedWithEvents: RingKind.packed.features.union(.eventIndex)
        }
    }
}

/// Reactors and a disk for one test, which expects that nothing of them stays.
final class DiskRig {
    let reactors: [Reactor]
    let log = LineCollector()
    private let scratch: TemporaryDirectory
    private let openBefore = Descriptor.openCount
    private let mappedBefore = SharedRegion.liveCount

    init(reactors count: Int = 1) throws {
        scratch = try TemporaryDirectory()
        reactors = try (0..<count).map { _ in try Reactor(name: "rig", time: .system) }
        for reactor in reactors { try reactor.start() }
    }

    /// A file of so many bytes.
    func file(byteCount: UInt64 = 1 << 20, readOnly: Bool = false) throws -> (any BlockDevice, path: String) {
        let path = try scratch.file(byteCount: byteCount)
        return (try openBlockDevice(target: path, options: BlockDeviceOptions(readOnly: readOnly), time: .system), path)
    }

    func disk(_ device: any BlockDevice, queues: Int = 1, identity: String = "rig") -> VirtioDisk {
        let log = log
        return VirtioDisk(device, on: reactors, queues: queues, identity: identity) { log.add($0) }
    }

    func stop() { for reactor in reactors { reactor.stop() } }
}

extension VhostDriver {
    /// A front end of a disk.
    convenience init(
        _ disk: VirtioDisk, features: VirtioFeatures, rings: Int = 1, pages: Int = 512, adding more: VhostProtocolFeatures = [],
        isKept: Bool = false, mayShrink: Bool = false, iommu: FrontIommu? = nil
    ) throws {
        try self.init(
            disk, features: features, rings: rings, pages: pages,
            agreeing: more.union([.replyAck, .configuration, .memorySlots, .resetDevice, .backendRequests]), isKept: isKept,
            mayShrink: mayShrink, iommu: iommu)
    }
}
