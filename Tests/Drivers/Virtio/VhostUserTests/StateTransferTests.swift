// A device's state by way of a front end's descriptor: written, read, refused, and never waited for long.

import DeviceControl
import DeviceState
import LinuxSystem
import Synchronization
import TestSupport
import Testing
import VirtioWire

@testable import VhostUser

/// A disk of so many bytes, which does nothing.
private final class IdleDisk: VhostDevice {
    let kind: DeviceState.Kind
    let attributes: [DeviceState.Attribute]
    let hasState: Bool

    init(bytes: UInt64, kind: DeviceState.Kind = .block, hasState: Bool = true) {
        (self.kind, self.hasState) = (kind, hasState)
        attributes = [DevicePropertyKey.bytes.attribute(bytes), DevicePropertyKey.counter("reads", 7, place: 0)]
    }

    var offer: VhostOffer {
        VhostOffer(
            features: .version1,
            protocolFeatures: VhostProtocolFeatures([.replyAck, .memorySlots]).union(hasState ? .deviceState : []), rings: 1)
    }

    func perform(_ task: VhostTask) throws(VhostRefusal) -> UInt32? {
        if case .stop = task { 0 } else { nil }
    }
    func configuration(from offset: Int, byteCount: Int) -> [UInt8] { [] }
    func idle() {}
    func resumed() {}
    func disconnected() {}
    func cancel() throws(VhostRefusal) {}
    func flush() throws(VhostRefusal) {}
}

@Suite("vhost-user: a device's state for a front end") struct StateTransferTests {
    /// A front end of a device on a thread.
    private final class FrontEnd {
        let socket: Descriptor
        let refused = LineCollector()
        let ended = LineCollector()
        private let thread: WorkerThread

        init(_ device: IdleDisk) throws {
            let (ours, theirs) = try StreamSocket.pair()
            socket = ours
            let (refused, ended) = (refused, ended)
            let connection = try VhostConnection(theirs, device) { refused.add($0) }
            thread = try WorkerThread(name: "session") {
                if case .gone(let reason) = connection.run() { ended.add(reason ?? "left") }
            }
            try say(.setProtocolFeatures, quads(device.offer.protocolFeatures.rawValue))
            try say(.setFeatures, quads(VirtioFeatures.version1.union(.protocolFeatures).rawValue))
        }

        func say(_ request: VhostRequest, _ payload: [UInt8] = [], _ descriptors: [Descriptor] = []) throws {
            try PacketSocket.send(socket, wire(request.rawValue, payload), descriptors)
        }

        /// The number that a message is answered with; nil: the connection ended instead.
        func ask(_ request: VhostRequest, _ payload: [UInt8] = [], _ descriptors: [Descriptor] = []) throws -> UInt64? {
            try say(request, payload, descriptors)
            var bytes: [UInt8] = []
            while bytes.count < 20 {
                let more = try StreamSocket.receive(socket.rawValue, capacity: 20 - bytes.count, wait: true)
                if more.isEmpty { return nil }
                bytes += more
            }
            return number(Array(bytes[12...]))
        }

        func startRing() throws {
            try say(.addRegion, quads(0, 0, 0x10000, 0x7000_0000, 0), [try memory()])
            try say(.setRingSize, words(0, 128))
            try say(.setRingAddresses, words(0, 0) + quads(0x7000_0000, 0x7000_2000, 0x7000_1000, 0))
            try say(.setRingKick, quads(1 << 8))
        }

        func leave() {
            socket.shutDown()
            thread.join()
        }
    }

    private func with<R>(_ device: IdleDisk, _ body: (FrontEnd) throws -> R) throws -> R {
        let front = try FrontEnd(device)
        defer { front.leave() }
        return try body(front)
    }

    private func saved(_ device: IdleDisk) throws -> [UInt8] {
        try with(device) { front in
            let pipe = try WakePipe()
            let reader = pipe.reader
            #expect(try front.ask(.setDeviceState, words(0, 0), [pipe.writer]) == 0x100)
            #expect(try front.ask(.checkDeviceState) == 0)
            return try StreamSocket.receive(reader.rawValue, capacity: 65536, wait: true)
        }
    }

    /// What is answered when a device is given a state.
    private func load(_ bytes: [UInt8], into device: IdleDisk, closes: Bool = true) throws -> (UInt64?, [String]) {
        try with(device) { front in
            let (ours, theirs) = try StreamSocket.pair()
            #expect(try front.ask(.setDeviceState, words(1, 0), [theirs]) == 0x100)
            var rest = bytes[...]
            while !rest.isEmpty {
                guard let sent = try? StreamSocket.send(ours.rawValue, rest, wait: false), sent > 0 else { break }
                rest = rest.dropFirst(sent)
            }
            if closes { ours.shutDown() }
            let answer = try front.ask(.checkDeviceState)
            #expect(try front.ask(.getFeatures) != nil, "the session goes on")
            return (answer, front.refused.all)
        }
    }

    @Test("a state that is written is one, and a device like the one before takes it")
    func roundTrip() throws {
        let bytes = try saved(IdleDisk(bytes: 4096))
        let state = try DeviceState(decoding: bytes) { _, _ in true }
        #expect(state == DeviceState(.block, over: .vhostUser, IdleDisk(bytes: 4096).attributes))
        let (answer, said) = try load(bytes, into: IdleDisk(bytes: 4096))
        #expect(answer == 0 && said.isEmpty, "\(said)")
    }

    @Test("a state of another device, of another kind, or damaged, is not taken, and the reason is said")
    func refused() throws {
        let bytes = try saved(IdleDisk(bytes: 4096))
        var damaged = bytes
        damaged[bytes.count / 2] ^= 1
        let cases: [([UInt8], IdleDisk, String)] = [
            (bytes, IdleDisk(bytes: 8192), "its geometry.bytes is 4096, and here it is 8192"),
            (bytes, IdleDisk(bytes: 4096, kind: .network), "the state is of a block device, and this is a network device"),
            (damaged, IdleDisk(bytes: 4096), "a damaged device state"), ([], IdleDisk(bytes: 4096), "ends after 0 bytes"),
        ]
        for (bytes, device, reason) in cases {
            let (answer, said) = try load(bytes, into: device)
            #expect(answer == 1 && said.contains { $0.contains(reason) }, "\(reason): \(said)")
        }
    }

    @Test("a device that runs is not moved; once its ring has stopped it is")
    func running() throws {
        try with(IdleDisk(bytes: 4096)) { front in
            try front.startRing()
            let pipe = try WakePipe()
            #expect(try front.ask(.setDeviceState, words(0, 0), [pipe.writer]) == 0x101)
            #expect(front.refused.all.contains { $0.contains("while ring 0 runs") }, "\(front.refused.all)")
            #expect(try front.ask(.getRingBase, words(0, 0)) != nil)
            #expect(try front.ask(.setDeviceState, words(0, 0), [pipe.writer]) == 0x100)
        }
    }

    @Test("VU58: a descriptor that never ends, floods, has no room or is none costs its front end the state, and nobody time")
    func VU58_hostile() throws {
        let began = monotonicMilliseconds()
        let (endless, said) = try load([1, 2, 3], into: IdleDisk(bytes: 4096), closes: false)
        #expect(endless == 1 && said.contains { $0.contains("timed out") }, "\(said)")
        #expect(monotonicMilliseconds() - began < 5000)
        try with(IdleDisk(bytes: 4096)) { front in
            let zero = try Descriptor.open("/dev/zero", 0)
            #expect(try front.ask(.setDeviceState, words(1, 0), [zero]) == 0x100)
            #expect(try front.ask(.checkDeviceState) == 1)
            let full = try WakePipe()
            try full.writer.setNonBlocking(true)
            while (try? StreamSocket.send(
                full.writer.rawValue, [UInt8](repeating: 0, count: 4096)[...], isSocket: false, wait: false)) ?? 0 > 0
            {}
            #expect(try front.ask(.setDeviceState, words(0, 0), [full.writer]) == 0x101)
            #expect(try front.ask(.checkDeviceState) == 1)
            // Nothing was begun any more.
            #expect(try front.ask(.checkDeviceState) == 0)
            let unwritable = try Descriptor.open("/dev/null", 0)
            #expect(try front.ask(.setDeviceState, words(0, 0), [unwritable]) == 0x101)
        }
        try with(IdleDisk(bytes: 4096, hasState: false)) { front in
            let pipe = try WakePipe()
            #expect(try front.ask(.setDeviceState, words(0, 0), [pipe.writer]) == nil)
        }
    }
}
