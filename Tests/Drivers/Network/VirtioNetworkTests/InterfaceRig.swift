import Connectors
import DeviceState
import LinuxSystem
import NetworkDevices
import Packets
import Reactor
import SharedMemory
import TestSupport
import Testing
import VhostUser
import VirtioWire

@testable import VirtioNetwork

/// What a driver accepts of rings.
enum RingKind: CaseIterable, Sendable {
    case split, splitWithEvents, packed, packedWithEvents

    var features: VirtioFeatures {
        switch self {
        case .split: .version1
        case .splitWithEvents: [.version1, .eventIndex]
        case .packed: [.version1, .packedRing]
        case .packedWithEvents: [.version1, .packedRing, .eventIndex]
        }
    }
}

/// What a driver accepts of offloads.
extension VirtioFeatures {
    typealias Net = VirtioFeatures.Network
    static let sending: VirtioFeatures = [Net.checksum, Net.hostTSO4, Net.hostTSO6]
    static let receiving: VirtioFeatures = [Net.guestChecksum, Net.guestTSO4, Net.guestTSO6]
    static let merging: VirtioFeatures = Net.mergeableBuffers
}

/// A reactor and an interface over frames by hand, for one test, which expects that nothing of them stays.
final class InterfaceRig {
    let reactors: [Reactor]
    let log = LineCollector()
    let port: FramePort

    init(mtu: Int = 1500, reactors count: Int = 1) throws {
        reactors = try (0..<count).map { _ in try Reactor(name: "rig", time: .system) }
        for reactor in reactors { try reactor.start() }
        port = try FramePort(mtu: mtu, time: .system)
    }

    func interface(
        _ device: (any NetworkDevice)? = nil, queues: Int = 1, patienceMilliseconds: UInt64 = 10_000
    ) -> VirtioInterface {
        let log = log
        return VirtioInterface(
            device ?? port.device, name: "rig", on: reactors, queues: queues, patienceMilliseconds: patienceMilliseconds
        ) {
            log.add($0)
        } left: {
            log.add("\($0)")
        }
    }

    func stop() { for reactor in reactors { reactor.stop() } }

    /// What came to the device, if anything does soon.
    func arrived() throws -> PortFrame { try #require(try port.receive(timeout: .seconds(20)), "no frame came: \(log.all)") }
}

/// A frame of so many bytes, which tells where each of them belongs.
func frame(_ count: Int, seed: UInt8 = 1) -> [UInt8] { (0..<count).map { UInt8(truncatingIfNeeded: $0 &* 31 &+ $0 >> 8) &+ seed } }

extension VhostDriver {
    /// A front end of an interface.
    convenience init(
        _ device: any VhostDevice, features: VirtioFeatures, rings: Int = 2, pages: Int = 1024, isKept: Bool = false,
        iommu: FrontIommu? = nil
    ) throws {
        try self.init(
            device, features: features, rings: rings, pages: pages,
            agreeing: VhostProtocolFeatures([.replyAck, .memorySlots, .resetDevice, .announcement, .mtu, .status])
                .union(iommu == nil ? [] : .backendRequests), isKept: isKept, iommu: iommu)
    }

    /// Has the session put by, so that it can be gone on with.
    func hold() throws -> VhostHandover { try putBy() }

    /// Goes on with another device, as a successor of the process would.
    func goOn(with device: any VhostDevice, _ handover: VhostHandover) throws {
        var handover = handover
        // As bytes and back, which is how it goes.
        handover.state = try DeviceState(decoding: handover.state.encoded, understands: VhostSession.understands)
        try goOn(device, handover)
    }
}
