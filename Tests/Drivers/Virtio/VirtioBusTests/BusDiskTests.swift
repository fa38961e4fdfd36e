// A disk and an interface that a caller in this process opens on a bus.

import BlockDevices
import BusDisk
import BusInterface
import Connectors
import DeviceBus
import Glibc
import LinuxSystem
import NetworkDevices
import Reactor
import ScriptedDevices
import SharedMemory
import Synchronization
import TestSupport
import Testing
import VirtioBlock
import VirtioBus
import VirtioNetwork
import VirtioWire

/// A reactor, a bus and a disk on it.
private final class Rig {
    let reactor: Reactor
    let bus = DeviceBus(name: "lab")
    let log = LineCollector()

    init(_ disk: any BlockDevice) throws {
        reactor = try Reactor(name: "rig", time: .system)
        try reactor.start()
        let log = log
        let device = VirtioDisk(disk, on: [reactor], queues: 1, identity: "rig") { log.add($0) }
        try bus.add(VirtioBusDevice(device, name: "disk", type: "virtio-block"))
    }

    convenience init(file path: String) throws {
        try self.init(openBlockDevice(target: path, options: BlockDeviceOptions(readOnly: false), time: .system))
    }

    func open(_ options: BusDiskOptions = BusDiskOptions()) throws -> BusDisk { try BusDisk("disk", on: bus.join(), options) }
    deinit { reactor.stop() }
}

@Suite(.serialized, .timeLimit(.minutes(1))) struct BusDiskTests {
    @Test func asyncCallersReadWhatTheyWrote() async throws {
        let scratch = try TemporaryDirectory()
        let rig = try Rig(file: scratch.file(byteCount: 4 << 20))
        let disk = try rig.open()
        let bytes = (0..<300_000 / 512 * 512).map { UInt8(truncatingIfNeeded: $0 / 512 &+ $0) }
        try await disk.write(at: 1024, bytes)
        try await disk.flush()
        #expect(try await disk.read(at: 1024, byteCount: bytes.count) == bytes)
        try await disk.writeZeroes(at: 1024, byteCount: 512)
        #expect(try await disk.read(at: 1024, byteCount: 512) == [UInt8](repeating: 0, count: 512))
        try await disk.discard(at: 4096, byteCount: 4096)
        #expect(disk.byteCount == 4 << 20 && "\(disk)" == "disk: 4194304 bytes")
        disk.close()
        #expect(rig.log.all == [])
    }

    /// More callers than slots: those that wait get their turn, and none gets another's bytes.
    @Test func manyCallersShareFewSlots() async throws {
        let scratch = try TemporaryDirectory()
        let rig = try Rig(file: scratch.file(byteCount: 4 << 20))
        let disk = try rig.open(BusDiskOptions(depth: 3, transferBytes: 4096))
        try await withThrowingTaskGroup(of: Void.self) { group in
            for caller in 0..<40 {
                group.addTask {
                    let bytes = [UInt8](repeating: UInt8(caller), count: 10 * 4096)
                    try await disk.write(at: UInt64(caller * bytes.count), bytes)
                    #expect(try await disk.read(at: UInt64(caller * bytes.count), byteCount: bytes.count) == bytes)
                }
            }
            try await group.waitForAll()
        }
        disk.close()
    }

    @Test func whatCannotBeIsRefused() throws {
        let rig = try Rig(NullDisk(byteCount: 1 << 20, isReadOnly: true))
        let disk = try rig.open()
        #expect(disk.isReadOnly)
        #expect(throws: BusDiskError.unsupported(disk: "disk")) { try disk.perform(.discard(at: 0, byteCount: 512)) }
        for operation: BusDiskOperation in [
            .read(at: 1, byteCount: 512), .read(at: 0, byteCount: 0), .read(at: 0, byteCount: -512),
            .read(at: 0, byteCount: 1 << 30),
            .write(at: 0, [1]), .write(at: 0, []),
        ] {
            #expect(throws: BusDiskError.self) { try disk.perform(operation) }
        }
        #expect(throws: BusDiskError.failed(disk: "disk")) { try disk.perform(.write(at: 0, [UInt8](repeating: 0, count: 512))) }
        #expect(throws: BusDiskError.failed(disk: "disk")) { try disk.perform(.read(at: .max - 511, byteCount: 512)) }
        disk.close()
        #expect(throws: BusDiskError.lost(disk: "disk", reason: "its driver closed it")) { try disk.perform(.flush) }
        for options in [BusDiskOptions(depth: 0), BusDiskOptions(transferBytes: 1000), BusDiskOptions(depth: 1000)] {
            #expect(throws: VirtioDriverError.self) { try rig.open(options) }
        }
    }

    /// A disk that is taken away while operations are under way: each of them ends, once, and says so.
    @Test func aDiskThatIsTakenAwayEndsWhatIsUnderWay() throws {
        // The first two are held; what comes after them ends at once.
        let count = Atomic<Int>(0)
        let scripted = ScriptedDisk { _ in count.add(1, ordering: .relaxed).newValue > 2 ? .done : nil }
        let rig = try Rig(scripted)
        let (ended, closed) = (LineCollector(), LineCollector())
        let disk = try BusDisk("disk", on: rig.bus.join(), BusDiskOptions(depth: 2)) { closed.add($0) }
        for index in 0..<5 {
            disk.submit(.read(at: UInt64(index) * 512, byteCount: 512)) { result in
                if case .failure(.lost(_, let reason)) = result { ended.add(reason) } else { ended.add("\(result)") }
            }
        }
        #expect(scripted.wait(for: 2))
        let watcher = rig.bus.join()
        let dropper = try WorkerThread(name: "dropper") { [bus = rig.bus] in try? bus.drop("disk") }
        #expect(eventually(20_000) { watcher.devices.isEmpty })
        // The device waits for what it has begun.
        for index in 0..<2 { scripted.end(index) }
        dropper.join()
        #expect(closed.all == ["the device was taken away"])
        // Who submitted is told by the driver's own thread.
        #expect(eventually(20_000) { ended.all.count == 5 }, "\(ended.all)")
        #expect(ended.all.contains("the device was taken away"), "\(ended.all)")
        #expect(throws: BusDiskError.lost(disk: "disk", reason: "the device was taken away")) {
            try disk.perform(.read(at: 0, byteCount: 512))
        }
        disk.close()
    }

    @Test func oneDriverAtATimeAndTheNextFindsItGood() throws {
        let mapped = SharedRegion.liveCount
        let open = Descriptor.openCount
        do {
            let scratch = try TemporaryDirectory()
            let rig = try Rig(file: scratch.file(byteCount: 1 << 20))
            for round in UInt8(0)..<10 {
                let disk = try rig.open()
                #expect(throws: VirtioDriverError.bus(.inUse("disk"))) { try rig.open() }
                if round > 0 {
                    #expect(try disk.perform(.read(at: 0, byteCount: 512)) == [UInt8](repeating: round - 1, count: 512))
                }
                try disk.perform(.write(at: 0, [UInt8](repeating: round, count: 512)))
                disk.close()
            }
            #expect(throws: VirtioDriverError.otherType(device: "disk", type: "virtio-block", wanted: "virtio-network")) {
                try BusInterface("disk", on: rig.bus.join(), received: { _ in })
            }
        }
        #expect(eventually(10_000) { SharedRegion.liveCount == mapped && Descriptor.openCount == open })
    }

    /// The connection below the disk: rings before features, rings that cannot be, calls that are none.
    @Test func PG4_ringsThatCannotBeAreRefused() throws {
        let rig = try Rig(NullDisk(byteCount: 1 << 20))
        let region = try SharedRegion(anonymous: 1 << 20)
        let connection = try rig.bus.join().open("disk", memory: try BusMemory([.init(address: 0, region: region)]))
        let bell = BusSignal.descriptor(try EventCounter().descriptor)
        #expect(throws: BusError.self) { try connection.share(0, BusArea(region, entries: 16), signal: bell) }
        #expect(throws: BusError.self) { try connection.call(VirtioCall.accept, WireNumber.bytes(UInt64.max)) }
        try connection.call(VirtioCall.accept, WireNumber.bytes(VirtioFeatures.version1.rawValue))
        for area: BusArea? in [
            nil, BusArea(region, entries: 0), BusArea(region, entries: 3), BusArea(region, entries: 65536),
            // It would fit, and is more than is offered.
            BusArea(region, entries: 32768),
            BusArea(region, at: 8, entries: 16),
            BusArea(region, byteCount: 100, entries: 16), BusArea(region, at: (1 << 20) - 64, entries: 16),
            BusArea(region, entries: .max),
        ] {
            #expect(throws: BusError.self) { try connection.share(0, area, signal: bell) }
        }
        #expect(throws: BusError.self) { try connection.share(0, BusArea(region, entries: 16), signal: .action {}) }
        for (function, bytes): (UInt32, [UInt8]) in [
            (VirtioCall.readConfiguration, []), (VirtioCall.readConfiguration, [0, 0, 0, 0, 1, 1, 0, 0]),
            (VirtioCall.readConfiguration, [UInt8](repeating: 255, count: 8)), (VirtioCall.writeConfiguration, [0, 0, 0, 0, 1]),
            (VirtioCall.writeConfiguration, [UInt8](repeating: 0, count: 300)), (VirtioCall.features, [1]), (77, []),
        ] {
            #expect(throws: BusError.self) { try connection.call(function, bytes) }
        }
        // A ring of nonsense breaks, and the disk is there for the next.
        try connection.share(0, BusArea(region, entries: 16), signal: bell)
        region.fill(0, count: 8192, with: 0xA5)
        try connection.signal(0)
        #expect(eventually(20_000) { !rig.log.all.isEmpty })
        connection.close()
        let disk = try rig.open()
        #expect(try disk.perform(.read(at: 0, byteCount: 512)).count == 512)
        disk.close()
    }

    /// A disk that grows is seen to have grown, and its driver is signalled.
    @Test func aDiskThatGrowsIsSeen() throws {
        let scratch = try TemporaryDirectory()
        let path = try scratch.file(byteCount: 1 << 20)
        let rig = try Rig(file: path)
        let disk = try rig.open()
        #expect(disk.byteCount == 1 << 20)
        #expect(truncate(path, 2 << 20) == 0)
        try disk.refresh()
        #expect(disk.byteCount == 2 << 20)
        try disk.perform(.write(at: (2 << 20) - 512, [UInt8](repeating: 5, count: 512)))
        disk.close()
    }
}

@Suite struct BusExampleTests {
    @Test func theExampleSaysWhatItDoes() throws {
        let run = try BuiltProgram("bus-in-memory").run()
        #expect(
            run.output == """
                disk0, balloon0
                1048576 bytes; sector 8 is read as it was written
                the guest has given 1024 pages

                """)
    }
}

@Suite(.serialized, .timeLimit(.minutes(1))) struct BusInterfaceTests {
    @Test func framesThatCannotBeAreRefusedAndAFullOneSaysSo() throws {
        let reactor = try Reactor(name: "rig", time: .system)
        try reactor.start()
        defer { reactor.stop() }
        let (bus, port) = (DeviceBus(name: "lab"), try FramePort(name: "port", time: .system))
        let device = VirtioInterface(port.device, name: "net", on: [reactor], queues: 1) { _ in }
        try bus.add(VirtioBusDevice(device, name: "net", type: "virtio-network"))
        let closed = LineCollector()
        let interface = try BusInterface("net", on: bus.join(), BusInterfaceOptions(depth: 4), received: { _ in }) {
            closed.add($0)
        }
        for count in [0, 13, 1519, 100_000] {
            #expect(throws: BusInterfaceError.badFrame(interface: "net", byteCount: count, most: 1518)) {
                try interface.send([UInt8](repeating: 0, count: count))
            }
        }
        try interface.send([UInt8](repeating: 1, count: 14))
        #expect(try port.receive(timeout: .seconds(20))?.bytes.count == 14)
        try bus.drop("net")
        #expect(closed.all == ["the device was taken away"])
        #expect(throws: BusInterfaceError.lost(interface: "net", reason: "the device was taken away")) {
            try interface.send([UInt8](repeating: 1, count: 60))
        }
        interface.close()
        for options in [BusInterfaceOptions(depth: 0), BusInterfaceOptions(mtu: 67), BusInterfaceOptions(mtu: 70_000)] {
            #expect(throws: VirtioDriverError.self) { try BusInterface("net", on: bus.join(), options, received: { _ in }) }
        }
    }
}
