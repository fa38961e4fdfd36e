// What an administrator does to a tap while it is in use or while no backend is there, and what a backend makes of it.

import DMA
import DriverRuntime
import Foundation
import LinuxSystem
import NetworkBackend
import NetworkDevices
import Packets
import SharedMemory
import TestSupport
import Testing
import XenBus
import XenTypes

@testable import VifTaps

@Suite(
    "Taps that are moved, resized and deleted (as root)", .serialized,
    .enabled(if: getuid() == 0 && access("/dev/net/tun", F_OK) == 0))
struct TapChangesTests {
    /// One test's directory, names that are its own, and what it made of namespaces and interfaces.
    private final class Scene {
        let directory: TemporaryDirectory
        let name = "vc\(getpid() % 100_000)\(["a", "b", "c", "d"].randomElement() ?? "a")"
        private let log = LineCollector()

        init() throws { directory = try TemporaryDirectory() }

        deinit {
            for name in interfaces { _ = try? ip("link delete \(name)") }
            if NetworkNamespace.exists(name) { _ = try? ip("netns delete \(name)") }
        }

        /// What a backend's process that comes after another one has: that one's end has let go of the tap. Here the
        /// thread that hears of changes may be looking at it.
        func successor() -> TapOpener {
            _ = eventually { !TapDevice.isInUse(name) }
            return opener()
        }

        var lines: [String] { log.all }
        var interfaces: [String] { FileSystem.names(in: "/sys/class/net").filter { $0.hasPrefix(name) }.sorted() }
        var record: TapRecord? { TapRecords(directory: directory.path, kind: .network).read(settings.device) }

        /// What a backend's process has; another is its successor's.
        func opener() -> TapOpener {
            TapOpener(
                records: TapRecords(directory: directory.path, kind: .network), time: .system, log: { [log] in log.add($0) })
        }

        var settings: NetworkSettings {
            var settings = NetworkSettings(
                device: DeviceID(frontend: DomainID(1), number: 0), address: MACAddress(littleEndian: 0x0100_3E16_0000))
            settings.name = name
            return settings
        }

        @discardableResult func ip(_ words: String) throws -> String {
            let run = Process()
            let output = Pipe()
            run.executableURL = URL(fileURLWithPath: "/sbin/ip")
            run.arguments = words.components(separatedBy: " ")
            run.standardOutput = output
            try run.run()
            let text = String(decoding: output.fileHandleForReading.readDataToEndOfFile(), as: UTF8.self)
            run.waitUntilExit()
            guard run.terminationStatus == 0 else { throw TimedOut("ip \(words): status \(run.terminationStatus)") }
            return text
        }
    }

    @Test("moved into another namespace, a tap is found there by a successor, with what was set there", arguments: [false, true])
    func moved(isKept: Bool) throws {
        let scene = try Scene()
        let keeper = isKept ? try TapDevice(name: scene.name, role: .keeper) : nil
        try scene.ip("netns add \(scene.name)")
        let bus = MemoryBus()
        do {
            let opener = scene.opener()
            let device = try opener.open(scene.settings)
            try scene.ip("link set \(scene.name) netns \(scene.name)")
            #expect(eventually { scene.record?.namespace != nil }, "\(scene.lines)")
            try scene.ip("-n \(scene.name) link set \(scene.name) name \(scene.name)x mtu 4000")
            #expect(device.mtu == 4000 && !device.isGone, "it is asked where it is")
            let queue = try device.openQueue(bus: bus)
            queue.close()
            #expect(scene.interfaces.isEmpty, "no second one was made for the queue")
        }
        let device = try scene.successor().open(scene.settings)
        #expect(device.readiness == .ready && device.mtu == 4000)
        let queue = try device.openQueue(bus: bus)
        #expect(scene.interfaces.isEmpty, "it is not made a second time")
        #expect(try scene.ip("-n \(scene.name) -br link").contains("\(scene.name)x"))
        queue.close()
        device.retire()
        #expect(scene.record == nil)
        withExtendedLifetime(keeper) {}
    }

    @Test("moved while no backend was there, it is found all the same; another's of the same name is not taken for it")
    func movedMeanwhile() throws {
        let scene = try Scene()
        try scene.ip("netns add \(scene.name)")
        do { #expect(try scene.opener().open(scene.settings).readiness == .ready) }
        try scene.ip("link set \(scene.name) netns \(scene.name)")
        do {
            let opener = scene.successor()
            let device = try opener.open(scene.settings)
            #expect(device.readiness == .ready && scene.interfaces.isEmpty)
            let queue = try device.openQueue(bus: MemoryBus())
            #expect(eventually { scene.record?.namespace != nil })
            queue.close()
        }
        // Another's, which has the same name there, and another number.
        try scene.ip("-n \(scene.name) link delete \(scene.name)")
        try scene.ip("-n \(scene.name) tuntap add dev \(scene.name) mode tap multi_queue")
        let opener = scene.successor()
        let device = try opener.open(scene.settings)
        #expect(device.readiness == .ready && scene.interfaces == [scene.name])
        device.retire()
    }

    @Test("where that namespace has ended the tap has, too: it is made anew where it was made before")
    func namespaceEnded() throws {
        let scene = try Scene()
        try scene.ip("netns add \(scene.name)")
        do {
            let opener = scene.opener()
            let device = try opener.open(scene.settings)
            try scene.ip("link set \(scene.name) netns \(scene.name)")
            #expect(eventually { scene.record?.namespace != nil }, "\(scene.lines)")
            withExtendedLifetime(device) {}
        }
        try scene.ip("netns delete \(scene.name)")
        let device = try scene.successor().open(scene.settings)
        #expect(device.readiness == .ready && scene.interfaces == [scene.name] && scene.record?.namespace == nil)
        device.retire()
    }

    @Test("moved back, it is found where it was made")
    func movedBack() throws {
        let scene = try Scene()
        try scene.ip("netns add \(scene.name)")
        let opener = scene.opener()
        let device = try opener.open(scene.settings)
        let index = scene.record?.index
        try scene.ip("link set \(scene.name) netns \(scene.name)")
        #expect(eventually { scene.record?.namespace != nil }, "\(scene.lines)")
        try scene.ip("-n \(scene.name) link set \(scene.name) netns \(getpid())")
        #expect(eventually { scene.record?.namespace == nil && scene.record?.index == index }, "\(scene.lines)")
        device.retire()
    }

    @Test("deleted while it is in use: whoever watches is told, it has no carrier, and the next one is a new one")
    func deleted() throws {
        let scene = try Scene()
        let opener = scene.opener()
        let first = try opener.open(scene.settings)
        let told = LineCollector()
        first.watchCarrier { told.add("told") }
        #expect(first.carrier == nil && !first.isGone)
        try scene.ip("link delete \(scene.name)")
        #expect(eventually { told.all == ["told"] })
        #expect(first.isGone && first.carrier == false)
        #expect(first.readiness == .failed("tap \(scene.name) is gone: somebody deleted it"))
        #expect(throws: Errno.noSuchDevice) { try first.openQueue(bus: MemoryBus()) }
        #expect(scene.interfaces.isEmpty, "a queue is no reason to make a tap")
        // Its name is free, though the first is not let go yet.
        let second = try opener.open(scene.settings)
        #expect(second.readiness == .ready && scene.interfaces == [scene.name])
        second.retire()
    }

    @Test("one that was made with a single queue has one, and stays when it is let go")
    func singleQueue() throws {
        let scene = try Scene()
        try scene.ip("tuntap add dev \(scene.name) mode tap")
        let bus = MemoryBus()
        do {
            let opener = scene.opener()
            let device = try opener.open(scene.settings)
            #expect(device.readiness == .ready && device.mostQueues == 1)
            try device.setOffloads([.checksum, .tcp4])
            for _ in 0..<2 {
                let queue = try device.openQueue(bus: bus)
                #expect(throws: Errno.busy) { try device.openQueue(bus: bus) }
                queue.close()
            }
            device.retire()
        }
        #expect(scene.interfaces == [scene.name] && scene.record == nil)
        let several = try TapDevice(name: "\(scene.name)m")
        #expect(several.mostQueues > 1)
    }

    @Test("what gathered in a single queue before anybody was connected is not delivered")
    func singleQueueIsDrained() throws {
        let scene = try Scene()
        try scene.ip("tuntap add dev \(scene.name) mode tap")
        let tap = try TapDevice(name: scene.name)
        try HostInterface.setUp(scene.name)
        let region = try SharedRegion(anonymous: 4 * SharedRegion.pageSize)
        let bus = MemoryBus()
        let segment = BusSegment(address: bus.attach(region), byteCount: UInt32(region.byteCount))
        #expect(try FrameSocket(interface: scene.name).send([UInt8](repeating: 0xFF, count: 60), count: 3) == 3)
        let queue = try tap.openQueue(bus: bus)
        var marked = 0
        while case .frame = queue.receive(into: [segment].span) {
            if (region.load(0) as UInt8) == 0xFF, (region.load(20) as UInt8) == 0xFF { marked += 1 }
        }
        #expect(marked == 0)
        queue.close()
    }

    @Test("a bridge's MTU is taken over where nothing is said, and never lowered for its other members")
    func bridgeMTU() throws {
        let scene = try Scene()
        let bridge = "\(scene.name)br"
        try scene.ip("link add \(bridge) type bridge")
        try scene.ip("link add \(scene.name)p0 type veth peer name \(scene.name)p1")
        try scene.ip("link set \(scene.name)p0 mtu 9000 master \(bridge)")
        #expect(HostInterface.mtu(of: bridge) == 9000)
        var settings = scene.settings
        settings.bridge = bridge
        let opener = scene.opener()
        let wide = try opener.open(settings)
        #expect(wide.mtu == 9000 && HostInterface.bridge(of: scene.name) == bridge && HostInterface.mtu(of: bridge) == 9000)
        // A frontend that takes frames of one page only.
        #expect(try wide.limitMTU(to: 4078) == MTUChange(from: 9000, to: 4078))
        #expect(wide.mtu == 4078 && HostInterface.mtu(of: bridge) == 9000)
        wide.retire()
        settings.name = "\(scene.name)n"
        settings.wantedMTU = 1400
        let narrow = try TapOpener(time: .system).open(settings)
        #expect(narrow.mtu == 1400 && HostInterface.mtu(of: bridge) == 9000)
        narrow.retire()
    }

    @Test("no MTU above the limit is shown, whoever sets it; what was set comes back with a higher limit")
    func limitedMTU() throws {
        let scene = try Scene()
        var settings = scene.settings
        settings.wantedMTU = 9000
        let opener = scene.opener()
        let device = try opener.open(settings)
        #expect(try device.limitMTU(to: 65517) == nil && device.mtu == 9000)
        #expect(try device.limitMTU(to: 4078) == MTUChange(from: 9000, to: 4078))
        #expect(try device.limitMTU(to: 4078) == nil && device.mtu == 4078)
        #expect(try device.limitMTU(to: 65517) == MTUChange(from: 4078, to: 9000))
        #expect(try device.limitMTU(to: 4078)?.to == 4078)
        try scene.ip("link set \(scene.name) mtu 6000")
        #expect(eventually { device.mtu == 4078 }, "\(device.mtu)")
        #expect(
            eventually { scene.lines.contains("tap \(scene.name): mtu 6000 lowered to 4078: more has no way") }, "\(scene.lines)")
        try scene.ip("link set \(scene.name) mtu 1400")
        #expect(try device.limitMTU(to: 65517) == nil && device.mtu == 1400, "what somebody set afterwards stays")
        device.retire()
    }

    @Test("VLANs on a bridge that does not look at them are refused by name; nothing is left")
    func noVLANs() throws {
        let scene = try Scene()
        let bridge = "\(scene.name)br"
        try scene.ip("link add \(bridge) type bridge")
        var settings = scene.settings
        settings.bridge = bridge
        settings.vlans = try PortVlans("5p/10-12")
        let failure = #expect(throws: DeviceOpenFailure.self) { try scene.opener().open(settings) }
        #expect(
            failure?.description.hasPrefix("tap \(scene.name): vlan 5p/10-12: bridge \(bridge) ") == true,
            "\(String(describing: failure))")
        #expect(scene.interfaces == [bridge] && scene.record == nil)
    }

    @Test("VLANs are set in as few ranges as they have")
    func runs() {
        #expect(TapPlacing.runs([7]) == [7...7])
        #expect(TapPlacing.runs([1, 2, 3, 10, 11, 20]) == [1...3, 10...11, 20...20])
        #expect(TapPlacing.runs([]).isEmpty)
    }
}
