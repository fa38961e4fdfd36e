// A disk as a test uses it, under each connector. Offsets and counts are bytes, whole sectors.

import BlockBackend
import BlockDevices
import BlockFrontend
import BusDisk
import DeviceBus
import DriverRuntime
import InProcess
import LinuxSystem
import Reactor
import TestSupport
import Toolstack
import VhostUser
import VirtioBlock
import VirtioBus
import VirtioWire
import XenTypes

/// A disk under a connector.
package protocol DiskUnderConnector: AnyObject {
    /// Its size, as its driver sees it.
    var byteCount: UInt64 { get }
    /// What was agreed on.
    var canDiscard: Bool { get }
    var canWriteZeroes: Bool { get }
    func read(at offset: UInt64, byteCount: Int) throws -> [UInt8]
    func write(at offset: UInt64, _ bytes: [UInt8]) throws
    func flush() throws
    func discard(at offset: UInt64, byteCount: UInt64) throws
    func writeZeroes(at offset: UInt64, byteCount: UInt64) throws
    /// Ends the connection and whatever carried it.
    func close()
}

extension ConnectorKind {
    /// Puts a driver in front of a disk.
    package func connect(_ disk: any BlockDevice, log: LineCollector) throws -> any DiskUnderConnector {
        switch self {
        case .xen: try XenDiskRig(disk, log)
        case .vhostUser: try VhostDiskRig(disk, log)
        case .inProcess: try BusDiskRig(disk, log)
        }
    }
}

// MARK: Xen PV

private final class XenDiskRig: DiskUnderConnector {
    private let service: BlockBackendService<InProcessHypervisor>
    private let thread: WorkerThread
    private let disk: BlockDisk<InProcessHypervisor>

    init(_ device: any BlockDevice, _ log: LineCollector) throws {
        let host = InProcessHost(time: .system)
        let (driverDomain, guest) = (host.domain(0), host.domain(1))
        _ = try DeviceDirectories(store: driverDomain.connectStore()).create(
            .init(try DiskSpecification(parsing: "/under-test,raw,xvda,w"), frontend: DomainID(1)))
        let service = BlockBackendService(
            hypervisor: driverDomain, openDisk: { (_) throws(DeviceOpenFailure) in device }, log: { log.add($0) })
        self.service = service
        thread = try WorkerThread(name: "blkback") {
            do { try service.run() } catch { log.add("\(error)") }
        }
        do {
            let frontend = try BlockFrontend(hypervisor: guest, device: 51712)
            try frontend.connect(timeoutMilliseconds: 20_000)
            disk = try BlockDisk(frontend)
        } catch {
            service.stop()
            thread.join()
            throw ConnectorTrouble("\(error): \(log.all)")
        }
    }

    var byteCount: UInt64 { disk.byteCount }
    var canDiscard: Bool { disk.properties.discard != nil }
    var canWriteZeroes: Bool { false }
    func read(at offset: UInt64, byteCount: Int) throws -> [UInt8] {
        var bytes = [UInt8](repeating: 0, count: byteCount)
        var span = bytes.mutableSpan
        var raw = span.mutableBytes
        try disk.read(at: offset, into: &raw)
        return bytes
    }
    func write(at offset: UInt64, _ bytes: [UInt8]) throws { try disk.write(at: offset, from: bytes.span.bytes) }
    func flush() throws { try disk.flush() }
    func discard(at offset: UInt64, byteCount: UInt64) throws { try disk.discard(at: offset, byteCount: byteCount) }
    func writeZeroes(at offset: UInt64, byteCount: UInt64) throws { throw ConnectorTrouble("Xen's protocol has no zeroes") }
    func close() {
        disk.close()
        service.stop()
        thread.join()
    }
}

// MARK: vhost-user

private final class VhostDiskRig: DiskUnderConnector {
    private let reactor: Reactor
    private let driver: VhostDriver
    private let configuration: BlockConfiguration
    private static let largest = 64 << 10

    init(_ device: any BlockDevice, _ log: LineCollector) throws {
        reactor = try Reactor(name: "rig", time: .system)
        try reactor.start()
        typealias Block = VirtioFeatures.Block
        let disk = VirtioDisk(device, on: [reactor], queues: 1, identity: "rig") { log.add($0) }
        let wanted: VirtioFeatures = [.version1, .eventIndex, Block.flush, Block.discard, Block.writeZeroes, Block.readOnly]
        do {
            driver = try VhostDriver(
                disk, features: wanted.intersection(disk.offer.features), rings: 1, pages: 512,
                agreeing: [.replyAck, .configuration, .memorySlots, .resetDevice, .backendRequests])
            configuration = try driver.diskConfiguration()
            try driver.start()
        } catch {
            reactor.stop()
            throw error
        }
    }

    var byteCount: UInt64 { configuration.capacity * 512 }
    var canDiscard: Bool { driver.features.contains(VirtioFeatures.Block.discard) }
    var canWriteZeroes: Bool { driver.features.contains(VirtioFeatures.Block.writeZeroes) }

    private func expect(_ request: VhostDriver.Request) throws {
        let status = try driver.perform(request).status
        guard status == BlockRequestStatus.okay.rawValue else { throw ConnectorTrouble("status \(status)") }
    }

    func read(at offset: UInt64, byteCount: Int) throws -> [UInt8] {
        var bytes: [UInt8] = []
        while bytes.count < byteCount {
            let count = min(Self.largest, byteCount - bytes.count)
            let request = driver.request(.read, sector: (offset + UInt64(bytes.count)) / 512, room: count)
            try expect(request)
            bytes += driver.region.bytes(at: request.data, count: count)
        }
        return bytes
    }

    func write(at offset: UInt64, _ bytes: [UInt8]) throws {
        for start in stride(from: 0, to: bytes.count, by: Self.largest) {
            let part = Array(bytes[start..<min(bytes.count, start + Self.largest)])
            try expect(driver.request(.write, sector: (offset + UInt64(start)) / 512, give: part))
        }
    }

    func flush() throws { if driver.features.contains(VirtioFeatures.Block.flush) { try expect(driver.request(.flush)) } }

    private func range(_ kind: BlockRequestKind, _ offset: UInt64, _ byteCount: UInt64) throws {
        let range = BlockRange(sector: offset / 512, sectorCount: UInt32(byteCount / 512))
        try expect(driver.request(kind, give: range.array))
    }

    func discard(at offset: UInt64, byteCount: UInt64) throws { try range(.discard, offset, byteCount) }
    func writeZeroes(at offset: UInt64, byteCount: UInt64) throws { try range(.writeZeroes, offset, byteCount) }
    func close() {
        driver.leave()
        reactor.stop()
    }
}

extension VhostDriver {
    /// The whole configuration space of a disk.
    package func diskConfiguration() throws -> BlockConfiguration {
        let count = BlockConfiguration.byteCount
        let question = [0, UInt32(count), 0].flatMap { WireNumber.bytes($0) } + [UInt8](repeating: 0, count: count)
        let answer = try exchange(24, question, [])
        return BlockConfiguration(WireNumber.array(Array(answer.dropFirst(12))))
    }
}

// MARK: In process

private final class BusDiskRig: DiskUnderConnector {
    private let reactor: Reactor
    private let bus = DeviceBus(name: "rig")
    private let disk: BusDisk

    init(_ device: any BlockDevice, _ log: LineCollector) throws {
        reactor = try Reactor(name: "rig", time: .system)
        try reactor.start()
        let disk = VirtioDisk(device, on: [reactor], queues: 1, identity: "rig") { log.add($0) }
        do {
            try bus.add(VirtioBusDevice(disk, name: "disk", type: "virtio-block"))
            self.disk = try BusDisk("disk", on: bus.join())
        } catch {
            reactor.stop()
            throw error
        }
    }

    var byteCount: UInt64 { disk.byteCount }
    var canDiscard: Bool { disk.canDiscard }
    var canWriteZeroes: Bool { disk.canWriteZeroes }
    func read(at offset: UInt64, byteCount: Int) throws -> [UInt8] {
        var bytes: [UInt8] = []
        while bytes.count < byteCount {
            bytes += try disk.perform(
                .read(at: offset + UInt64(bytes.count), byteCount: min(disk.largestTransfer, byteCount - bytes.count)))
        }
        return bytes
    }
    func write(at offset: UInt64, _ bytes: [UInt8]) throws {
        for start in stride(from: 0, to: bytes.count, by: disk.largestTransfer) {
            let part = Array(bytes[start..<min(bytes.count, start + disk.largestTransfer)])
            try disk.perform(.write(at: offset + UInt64(start), part))
        }
    }
    func flush() throws { try disk.perform(.flush) }
    func discard(at offset: UInt64, byteCount: UInt64) throws { try disk.perform(.discard(at: offset, byteCount: byteCount)) }
    func writeZeroes(at offset: UInt64, byteCount: UInt64) throws {
        try disk.perform(.writeZeroes(at: offset, byteCount: byteCount, mayUnmap: false))
    }
    func close() {
        disk.close()
        reactor.stop()
    }
}
