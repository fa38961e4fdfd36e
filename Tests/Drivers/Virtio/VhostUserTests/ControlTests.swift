// A device behind a socket as whoever looks after it sees it, while a front end uses it that notices nothing.

import DeviceControl
import DeviceState
import LinuxSystem
import SharedMemory
import Synchronization
import TestSupport
import Testing
import VirtioWire

@testable import VhostUser

/// A device that notes what it was told, and stops rings when it is allowed to.
private final class NotingDevice: VhostDevice {
    let kind = DeviceState.Kind.block
    let attributes = [DevicePropertyKey.bytes.attribute(4096)]
    let told = LineCollector()
    /// Whether a ring that is to be stopped stops.
    let maystop = Monitor(true)

    var offer: VhostOffer {
        VhostOffer(
            features: .version1, protocolFeatures: [.multipleQueues, .replyAck, .backendRequests, .configuration, .memorySlots],
            rings: 2)
    }

    func perform(_ task: VhostTask) throws(VhostRefusal) -> UInt32? {
        switch task {
        case .start(let ring, let plan): told.add("start \(ring) at \(plan.base)")
        case .stop(let ring):
            _ = maystop.wait { $0 ? true : nil }
            told.add("stop \(ring)")
            return 42
        case .kick(let ring): told.add("kick \(ring)")
        case .enable: told.add("enable")
        case .announce(let address): told.add("announce \(address)")
        default: break
        }
        return nil
    }

    func configuration(from offset: Int, byteCount: Int) -> [UInt8] { [] }
    func idle() { told.add("look") }
    func resumed() {}
    func disconnected() { told.add("gone") }
    func cancel() throws(VhostRefusal) { told.add("cancel") }
    func restoreSignals() { told.add("signals") }
    func flush() throws(VhostRefusal) { throw VhostRefusal("no flush today") }
}

@Suite("vhost-user: devices that are looked after") struct ControlTests {
    private let scratch: TemporaryDirectory
    private let device = NotingDevice()
    private let server: VhostServer
    private let log = LineCollector()

    init() throws {
        scratch = try TemporaryDirectory()
        let log = log
        server = try VhostServer(path: "\(scratch.path)/x.sock", device) { log.add($0) }
    }

    private var control: VhostControl { VhostControl("x", server, device, time: SystemTime()) }

    /// A front end whose first ring runs; its socket, and what the ring calls.
    private func frontEnd() throws -> (Descriptor, call: EventCounter) {
        let front = try connect(server.path)
        #expect(eventually(5000) { device.told.all.contains("start 0 at 7") }, "\(device.told.all) \(log.all)")
        return front
    }

    private func connect(_ path: String) throws -> (Descriptor, call: EventCounter) {
        let socket = try StreamSocket.connect(path: path)
        return (socket, try begin(socket).call)
    }

    /// Begins a ring.
    private func begin(_ socket: Descriptor) throws -> (call: EventCounter, kick: EventCounter) {
        let (call, kick) = (try EventCounter(), try EventCounter())
        func say(_ request: VhostRequest, _ payload: [UInt8] = [], _ descriptors: [Descriptor] = []) throws {
            try PacketSocket.send(socket, wire(request.rawValue, payload), descriptors)
        }
        let accepted = VirtioFeatures.version1.union(.protocolFeatures)
        try say(.setProtocolFeatures, quads(device.offer.protocolFeatures.rawValue))
        try say(.setFeatures, quads(accepted.rawValue))
        try say(.addRegion, quads(0, 0, 0x10000, 0x7000_0000, 0), [try memory()])
        try say(.setRingSize, words(0, 128))
        try say(.setRingBase, words(0, 7))
        try say(.setRingAddresses, words(0, 0) + quads(0x7000_0000, 0x7000_2000, 0x7000_1000, 0))
        try say(.setRingCall, quads(0), [call.descriptor])
        try say(.setRingKick, quads(0), [kick.descriptor])
        return (call, kick)
    }

    @Test("a device waits, runs, is paused and goes on where it was; its front end's connection stays")
    func phases() throws {
        defer { server.stop() }
        #expect(control.phase == .waiting)
        let (socket, _) = try frontEnd()
        #expect(control.phase == .running)
        #expect(try control.described().map(\.name) == ["geometry.bytes"])
        #expect(throws: ControlError.notPaused("x")) { try control.perform(.resume) }
        try control.perform(.pause(milliseconds: 5000))
        #expect(control.phase == .paused)
        #expect(device.told.all.suffix(2) == ["stop 0", "gone"])
        let words = Dictionary(uniqueKeysWithValues: try control.described().map { ($0.name, $0.value) })
        #expect(words["queue.0.next-available"] == "42")
        #expect(words["queue.0.entries"] == "128")
        #expect(words["queue.0.descriptors-address"] == "0x70000000")
        #expect(words["queue.0.used-address"] == "0x70002000")
        #expect(words["queue.0.available-address"] == "0x70001000")
        #expect(words["queue.0.call"]?.hasPrefix("descriptor ") == true)
        #expect(words["queue.0.enabled"] == "no")
        #expect(words["memory.0.bytes"] == "65536")
        #expect(words["memory.0.user-address"] == "0x70000000")
        #expect(words["agreement.features"] == "0x140000000")
        // Every attribute has words.
        for attribute in try control.attributes() {
            #expect(
                DevicePropertyKey.property(of: attribute) != nil || !control.properties(of: attribute).isEmpty, "\(attribute)")
        }
        try control.perform(.pause(milliseconds: 5000))
        try control.perform(.resume)
        #expect(eventually(5000) { device.told.all.last == "start 0 at 42" }, "\(device.told.all) \(log.all)")
        #expect(control.phase == .running)
        // Nothing came, and no end.
        #expect(try !waitReadable(socket.rawValue, milliseconds: 0))
    }

    @Test("commands reach the running device, and only there")
    func commands() throws {
        defer { server.stop() }
        #expect(throws: ControlError.hasNoDriver("x")) { try control.perform(.kick(queue: 0)) }
        let (socket, call) = try frontEnd()
        #expect(try !waitReadable(call.descriptor.rawValue, milliseconds: 0))
        try control.perform(.kick(queue: 0))
        try control.perform(.refresh)
        #expect(device.told.all.suffix(2) == ["kick 0", "look"])
        try control.perform(.inject(queue: 0))
        #expect(try waitReadable(call.descriptor.rawValue, milliseconds: 0))
        func refusal(_ command: DeviceCommand) -> String {
            do throws(ControlError) {
                try control.perform(command)
                return "done"
            } catch { return "\(error)" }
        }
        #expect(refusal(.kick(queue: 1)) == "x: kick: ring 1 does not run")
        #expect(refusal(.inject(queue: 2)) == "x: inject: no ring 2; it has 2")
        #expect(refusal(.announce) == "x: announce: it is no interface")
        #expect(refusal(.flush) == "x: flush: no flush today")
        try control.perform(.pause(milliseconds: 5000))
        #expect(refusal(.inject(queue: 0)) == "x: is paused; `causeway device do x resume` first")
        #expect(refusal(.close).contains("is paused"))
        try control.perform(.resume)
        #expect(eventually(5000) { control.phase == .running })
        try control.perform(.close)
        #expect(try StreamSocket.receive(socket.rawValue, capacity: 1, wait: true).isEmpty)
        #expect(eventually(5000) { control.phase == .waiting })
    }

    @Test("a device is reset where it is, by its front end unnoticed: rings stop and start, descriptors are trusted again")
    func reset() throws {
        defer { server.stop() }
        try control.perform(.reset(milliseconds: 5000))
        let (socket, _) = try frontEnd()
        try control.perform(.reset(milliseconds: 5000))
        let isBack = eventually(5000) { control.phase == .running && device.told.all.last == "start 0 at 42" }
        #expect(isBack && device.told.all.suffix(4) == ["stop 0", "gone", "signals", "start 0 at 42"], "\(device.told.all)")
        #expect(try !waitReadable(socket.rawValue, milliseconds: 0))
        // What is paused goes on by it.
        try control.perform(.pause(milliseconds: 5000))
        try control.perform(.reset(milliseconds: 5000))
        #expect(eventually(5000) { control.phase == .running })
    }

    @Test("requests are cancelled though the device is about to be paused, and waits for them")
    func cancels() throws {
        defer { server.stop() }
        _ = try withExtendedLifetime(try frontEnd()) { _ in
            device.maystop.change { $0 = false }
            #expect(throws: ControlError.pauses("x", milliseconds: 50)) { try control.perform(.pause(milliseconds: 50)) }
            try control.perform(.cancel)
            #expect(device.told.all.last == "cancel")
            device.maystop.change { $0 = true }
        }
    }

    @Test("messages are told in the log while that is wanted")
    func traces() throws {
        defer { server.stop() }
        func lines() -> [String] { log.all.filter { $0.hasSuffix(": done") || $0.contains("which was not offered") } }
        try control.perform(.trace(isOn: true))
        let (socket, _) = try frontEnd()
        #expect(eventually(5000) { lines().count == 8 }, "\(log.all)")
        #expect(lines().first?.hasSuffix("x.sock: \(VhostRequest.setProtocolFeatures): done") == true, "\(lines())")
        try control.perform(.trace(isOn: false))
        try PacketSocket.send(socket, wire(VhostRequest.setRingEnabled.rawValue, words(0, 1)), [])
        #expect(eventually(5000) { device.told.all.last == "enable" })
        #expect(lines().count == 8)
    }

    @Test("a device is not handed on without its process, and the reason is given")
    func handover() throws {
        defer { server.stop() }
        do throws(ControlError) {
            try control.perform(.handover(socket: "/s"))
            Issue.record("handed on")
        } catch { #expect("\(error)".hasPrefix("x: handover: ") && "\(error)".contains("causeway upgrade")) }
    }

    @Test("a device that goes to its front ends is looked after as one that they come to")
    func client() throws {
        server.stop()
        let path = "\(scratch.path)/front.sock"
        let listener = try StreamSocket.listen(path: path, backlog: 1, blocks: true)
        let client = try VhostClient(path: path, device) { [log] in log.add($0) }
        defer { client.stop() }
        let control = VhostControl("x", client, device, time: SystemTime())
        let socket = try #require(try StreamSocket.accept(listener))
        let (call, kick) = try begin(socket)
        #expect(eventually(5000) { device.told.all.contains("start 0 at 7") }, "\(device.told.all) \(log.all)")
        #expect(control.phase == .running)
        try withExtendedLifetime((call, kick)) {
            for round in 1...3 {
                try control.perform(.pause(milliseconds: 5000))
                #expect(control.phase == .paused && device.told.all.suffix(2) == ["stop 0", "gone"])
                #expect(try control.described().contains { $0.name == "queue.0.next-available" && $0.value == "42" })
                #expect(throws: ControlError.isPaused("x")) { try control.perform(.kick(queue: 0)) }
                if round == 2 { try control.perform(.reset(milliseconds: 5000)) } else { try control.perform(.resume) }
                #expect(eventually(5000) { device.told.all.last == "start 0 at 42" }, "\(device.told.all) \(log.all)")
            }
            try control.perform(.kick(queue: 0))
            try control.perform(.close)
        }
        #expect(try StreamSocket.receive(socket.rawValue, capacity: 1, wait: true).isEmpty)
        #expect(eventually(5000) { control.phase == .waiting })
    }

    @Test("an interface announces its own address")
    func announces() throws {
        defer { server.stop() }
        _ = try withExtendedLifetime(try frontEnd()) { _ in
            let address = try #require(MACAddress("00:16:3e:01:02:03"))
            try VhostControl("x", server, device, address: address, time: SystemTime()).perform(.announce)
        }
        #expect(device.told.all.contains("announce 00:16:3e:01:02:03"))
    }

    @Test("a pause that takes too long is said, and comes about all the same")
    func longPause() throws {
        defer { server.stop() }
        _ = try withExtendedLifetime(try frontEnd()) { _ in
            device.maystop.change { $0 = false }
            #expect(throws: ControlError.pauses("x", milliseconds: 100)) { try control.perform(.pause(milliseconds: 100)) }
            #expect(!device.told.all.contains("stop 0"))
            device.maystop.change { $0 = true }
            try control.perform(.pause(milliseconds: 5000))
            #expect(device.told.all.contains("stop 0") && control.phase == .paused)
        }
    }

    @Test("a session cannot be loaded from a file, and the reason is given; what is no state of this device is refused first")
    func load() throws {
        defer { server.stop() }
        let own = try control.save()
        #expect(throws: ControlError.otherKind("x", .block, saved: .network)) {
            try control.load(DeviceState(.network, over: .vhostUser))
        }
        #expect(throws: ControlError.otherTransport("x", saved: .xen)) { try control.load(DeviceState(.block, over: .xen)) }
        do throws(ControlError) {
            try control.load(own)
            Issue.record("loaded")
        } catch { #expect("\(error)".contains("causeway upgrade")) }
    }

    @Test("a device that somebody else has is not a front end's; one that a front end has is its until it goes")
    func exclusive() throws {
        server.stop()
        let isTaken = Mutex(true)
        let had = LineCollector()
        let exclusive = ExclusiveVhostDevice(device) {
            if isTaken.withLock({ $0 }) { return "somebody has it" }
            had.add("had")
            return nil
        } letGo: {
            had.add("let go")
        }
        let shared = try VhostServer(path: "\(scratch.path)/shared.sock", exclusive) { [log] in log.add($0) }
        defer { shared.stop() }
        let refused = try connect(shared.path)
        #expect(eventually(5000) { log.all.contains { $0.hasSuffix("the front end is gone: somebody has it") } }, "\(log.all)")
        #expect(!device.told.all.contains { $0.hasPrefix("start") })
        withExtendedLifetime(refused) {}
        isTaken.withLock { $0 = false }
        let (socket, _) = try connect(shared.path)
        #expect(eventually(5000) { device.told.all.contains("start 0 at 7") }, "\(log.all)")
        #expect(had.all == ["let go", "had"])
        socket.shutDown()
        #expect(eventually(5000) { had.all == ["let go", "had", "let go"] }, "\(had.all)")
        #expect(exclusive.attributes == device.attributes && exclusive.kind == .block)
    }
}
