// A front end and its driver in a test's own process: a socket, memory shared by descriptor, rings in it. The guest's
// addresses and the front end's own are different numbers on purpose.

import LinuxSystem
import SharedMemory
import TestSupport
import Testing
import VhostUser
import VirtioRing
import VirtioWire

@testable import VirtioBlock

/// A driver's end of one ring, split or packed.
protocol QueueDriver: AnyObject {
    func offer(_ chain: DescriptorChain) -> ChainTicket?
    func publish() -> Bool
    func reap() throws -> UsedChain?
}

final class RingDriver<Ring: DriverRing & ~Copyable>: QueueDriver {
    var ring: Ring
    init(_ ring: consuming Ring) { self.ring = ring }
    func offer(_ chain: DescriptorChain) -> ChainTicket? { ring.offer(chain) }
    func publish() -> Bool { ring.publish() }
    func reap() throws -> UsedChain? { try ring.reap() }
}

/// A front end over a socket of its own.
final class VhostDriver {
    static let guestBase: UInt64 = 0x1_0000_0000
    static let userBase: UInt64 = 0x7F00_0000_0000
    /// Where data begins; rings lie before it.
    static let dataStart = 0x40000

    let region: SharedRegion
    let features: VirtioFeatures
    let protocolFeatures: VhostProtocolFeatures
    private let file: Descriptor
    private let socket: Descriptor
    private(set) var service: VhostService
    let kicks: [EventCounter]
    let calls: [EventCounter]
    let errors: [EventCounter]
    private(set) var queues: [any QueueDriver] = []
    /// Entries of each ring that was begun.
    private(set) var sizes: [Int] = []
    let ended = LineCollector()

    /// Connects, agrees and shares memory; no ring runs.
    init(
        _ disk: VirtioDisk, features: VirtioFeatures, rings: Int = 1, pages: Int = 512, adding more: VhostProtocolFeatures = []
    ) throws {
        self.features = features
        protocolFeatures = more.union([.replyAck, .configuration, .memorySlots, .resetDevice, .backendRequests])
        let memory = try SealedMemory("guest", byteCount: pages * SharedRegion.pageSize, final: false)
        file = memory.descriptor
        region = try SharedRegion(mapping: file, byteCount: memory.byteCount, writable: true)
        kicks = try (0..<rings).map { _ in try EventCounter() }
        calls = try (0..<rings).map { _ in try EventCounter() }
        errors = try (0..<rings).map { _ in try EventCounter() }
        let (ours, theirs) = try StreamSocket.pair()
        socket = ours
        service = try VhostService(theirs, disk, resuming: nil, ended)
        try send(16, protocolFeatures.rawValue)
        try send(2, features.union(.protocolFeatures).rawValue)
        try addMemory()
    }

    /// Puts the connection by, as for a successor; what came first in the way, if something did.
    func putBy() throws -> VhostHandover {
        guard case .held(let handover) = service.hold() else { throw TimedOut("not put by: \(ended.all)") }
        return handover
    }

    /// Has another disk go on with what was put by; in `service` from then on.
    func goOn(_ disk: VirtioDisk, _ handover: VhostHandover) throws {
        service = try VhostService(handover.socket, disk, resuming: handover, ended)
    }

    func addMemory() throws {
        try send(37, 0, Self.guestBase, UInt64(region.byteCount), Self.userBase, 0, descriptors: [file])
    }

    /// Memory for what is in flight, for one ring of up to 16 entries.
    func addInflight() throws {
        let memory = try SealedMemory("inflight", byteCount: SharedRegion.pageSize, final: true)
        try send(32, UInt64(memory.byteCount), 0, 1 | 16 << 16, descriptors: [memory.descriptor])
    }

    func removeMemory() throws { try send(38, 0, Self.guestBase, UInt64(region.byteCount), Self.userBase, 0) }

    /// Makes a ring and starts it.
    func start(_ ring: Int = 0, size: Int = 16, isEnabled: Bool = true) throws {
        try begin(ring, size: size)
        try send(18, words: UInt32(ring), isEnabled ? 1 : 0)
    }

    /// The same, before it is enabled.
    func begin(_ ring: Int, size: Int) throws {
        let start = ring * 0x8000
        let areas = VirtqueueAreas(in: region, at: start, size: size, features: features)
        queues.append(
            areas.isPacked
                ? RingDriver(PackedDriverRing(initialising: areas, features: features))
                : RingDriver(SplitDriverRing(initialising: areas, features: features)))
        sizes.append(size)
        try settle(ring, base: areas.isPacked ? 0x8000 : 0)
    }

    /// Says what a ring is, and starts it.
    func settle(_ ring: Int, base: UInt32) throws {
        try send(8, words: UInt32(ring), UInt32(sizes[ring]))
        try send(10, words: UInt32(ring), base)
        try place(ring, isLogged: false)
        // By messages: nothing more is to be said.
        if protocolFeatures.contains(.inBandNotifications) { return }
        try send(13, UInt64(ring), descriptors: [calls[ring].descriptor])
        try send(14, UInt64(ring), descriptors: [errors[ring].descriptor])
        try send(12, UInt64(ring), descriptors: [kicks[ring].descriptor])
    }

    /// Says where a ring is, and whether what the device writes into it is logged.
    func place(_ ring: Int, isLogged: Bool) throws {
        let areas = VirtqueueAreas(in: region, at: ring * 0x8000, size: sizes[ring], features: features)
        let user = { (area: RingArea) in Self.userBase + UInt64(area.offset) }
        let number = UInt64(ring) | (isLogged ? 1 << 32 : 0)
        try send(
            9, number, user(areas.descriptors), user(areas.device), user(areas.driver), Self.guestBase + UInt64(areas.device.offset)
        )
    }

    /// Sends a message that is to be acknowledged, and expects that it is; the answer's payload.
    @discardableResult
    func send(_ code: UInt32, _ values: UInt64..., descriptors: [Descriptor] = []) throws -> [UInt8] {
        try exchange(code, values.flatMap { bytes($0, 8) }, descriptors)
    }

    @discardableResult
    func send(_ code: UInt32, words: UInt32...) throws -> [UInt8] {
        try exchange(code, words.flatMap { bytes(UInt64($0), 4) }, [])
    }

    private func bytes(_ value: UInt64, _ count: Int) -> [UInt8] {
        (0..<count).map { UInt8(truncatingIfNeeded: value >> (8 * $0)) }
    }

    /// What a message without an answer of its own is acknowledged with.
    func exchange(_ code: UInt32, _ payload: [UInt8], _ descriptors: [Descriptor]) throws -> [UInt8] {
        let isAcknowledged = code != 16 || !queues.isEmpty
        let header = [code, isAcknowledged ? 9 : 1, UInt32(payload.count)].flatMap { bytes(UInt64($0), 4) }
        try PacketSocket.send(socket, header + payload, descriptors)
        if code == 16 { return [] }
        let head = try receive(12)
        let size = Int(head[8]) | Int(head[9]) << 8
        let answer = try receive(size)
        if size == 8, ![11, 24].contains(code) { #expect(answer.allSatisfy { $0 == 0 }, "message \(code) was refused") }
        return answer
    }

    private func receive(_ count: Int) throws -> [UInt8] {
        var bytes: [UInt8] = []
        while bytes.count < count {
            let more = try StreamSocket.receive(socket.rawValue, capacity: count - bytes.count, wait: true)
            guard !more.isEmpty else { throw TimedOut("the back end ended the connection: \(ended.all)") }
            bytes += more
        }
        return bytes
    }

    /// Ends the connection, and waits until everything has stopped.
    func leave() {
        socket.shutDown()
        service.join()
    }

    /// Sends a message and does not wait for its answer.
    func say(_ bytes: [UInt8]) throws { try PacketSocket.send(socket, bytes, []) }

    /// So many bytes of answers.
    func hear(_ count: Int) throws -> [UInt8] { try receive(count) }
}

// MARK: Requests

extension VhostDriver {
    /// A request as bytes: header, data for the device, room for its data, and a status; the status's place.
    struct Request {
        var chain = DescriptorChain()
        var status = 0
        var data = 0
    }

    /// Lays a request out at page `page` of the data.
    func request(
        _ kind: BlockRequestKind, sector: UInt64 = 0, page: Int = 0, give: [UInt8] = [], room: Int = 0, pieces: Int = 1
    ) -> Request {
        var request = Request()
        let place = Self.dataStart + page * SharedRegion.pageSize
        BlockRequestHeader(kind, sector: sector).store(region, at: place)
        request.chain.appendReadable(run(place, 16))
        request.data = place + 512
        if !give.isEmpty {
            region.write(give, at: request.data)
            for piece in cut(give.count, pieces) { request.chain.appendReadable(run(request.data + piece.0, piece.1)) }
        }
        for piece in cut(room, pieces) { request.chain.appendWritable(run(request.data + piece.0, piece.1)) }
        request.status = place + 16
        region.store(UInt8(0xFF), at: request.status)
        request.chain.appendWritable(run(request.status, 1))
        return request
    }

    func run(_ offset: Int, _ count: Int) -> GuestRun {
        GuestRun(address: Self.guestBase + UInt64(offset), byteCount: UInt32(count))
    }

    private func cut(_ count: Int, _ pieces: Int) -> [(Int, Int)] {
        guard count > 0 else { return [] }
        let size = (count + pieces - 1) / pieces
        return stride(from: 0, to: count, by: size).map { ($0, min(size, count - $0)) }
    }

    /// Offers a request and kicks if that is wanted.
    @discardableResult
    func offer(_ request: Request, on ring: Int = 0) throws -> ChainTicket {
        let ticket = try #require(queues[ring].offer(request.chain))
        if queues[ring].publish() { kicks[ring].ring() }
        return ticket
    }

    /// The next used chain.
    func reap(on ring: Int = 0) throws -> UsedChain {
        var used: UsedChain?
        _ = try eventually {
            used = try queues[ring].reap(); return used != nil
        }
        return try #require(used, "no answer")
    }

    /// Does a request; its status and how much was written.
    func perform(_ request: Request, on ring: Int = 0) throws -> (status: UInt8, written: UInt32) {
        let ticket = try offer(request, on: ring)
        let used = try reap(on: ring)
        #expect(used.ticket == ticket)
        return (region.load(request.status), used.written)
    }
}

/// A connection's back end, on a thread of its own.
final class VhostService: Sendable {
    private let connection: VhostConnection
    private let thread: WorkerThread
    private let end: EndBox
    /// Whether what was put by is served, once that is known.
    let began = LineCollector()

    /// Written before the thread ends, and read after.
    private final class EndBox: @unchecked Sendable { var value: VhostEnd? }

    init(_ socket: Descriptor, _ disk: VirtioDisk, resuming handover: VhostHandover?, _ ended: LineCollector) throws {
        let (connection, end) = (try VhostConnection(socket, disk), EndBox())
        (self.connection, self.end) = (connection, end)
        let began = began
        thread = try WorkerThread(name: "session") {
            let result = connection.run(resuming: handover) { began.add("\($0)") }
            if case .gone(let reason) = result { ended.add(reason ?? "left") }
            end.value = result
        }
    }

    /// Has it put by; how it ended.
    func hold() -> VhostEnd {
        connection.hold()
        return join()
    }

    /// Waits for its end.
    @discardableResult func join() -> VhostEnd {
        thread.join()
        return end.value ?? .gone("never ran")
    }
}
