// A front end and its driver in a test's own process: a socket, memory shared by descriptor, rings in it. The guest's
// addresses and the front end's own are different numbers on purpose.

import LinuxSystem
import SharedMemory
import TestSupport
import Testing
import VhostUser
import VirtioRing
import VirtioWire

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
    private let file: Descriptor
    private let socket: Descriptor
    private let connection: VhostConnection
    private let thread: WorkerThread
    let kicks: [EventCounter]
    let calls: [EventCounter]
    let errors: [EventCounter]
    private(set) var queues: [Int: any QueueDriver] = [:]
    let ended = LineCollector()
    /// Whether messages are expected to be taken.
    var expectsAgreement = true
    /// The last answer's payload.
    private(set) var lastAnswer: [UInt8] = []

    /// Connects, agrees and shares memory; no ring runs.
    init(_ device: any VhostDevice, features: VirtioFeatures, rings: Int = 2, pages: Int = 1024) throws {
        self.features = features
        let memory = try SealedMemory("guest", byteCount: pages * SharedRegion.pageSize, final: false)
        file = memory.descriptor
        region = try SharedRegion(mapping: file, byteCount: memory.byteCount, writable: true)
        kicks = try (0..<rings).map { _ in try EventCounter() }
        calls = try (0..<rings).map { _ in try EventCounter() }
        errors = try (0..<rings).map { _ in try EventCounter() }
        let (ours, theirs) = try StreamSocket.pair()
        socket = ours
        let connection = try VhostConnection(theirs, device)
        self.connection = connection
        let ended = ended
        thread = try WorkerThread(name: "session") {
            if case .gone(let reason) = connection.run() { ended.add(reason ?? "left") }
        }
        try send(16, VhostProtocolFeatures([.replyAck, .memorySlots, .resetDevice, .announcement, .mtu, .status]).rawValue)
        try send(2, features.union(.protocolFeatures).rawValue)
        try addMemory()
    }

    func addMemory() throws {
        try send(37, 0, Self.guestBase, UInt64(region.byteCount), Self.userBase, 0, descriptors: [file])
    }

    func removeMemory() throws { try send(38, 0, Self.guestBase, UInt64(region.byteCount), Self.userBase, 0) }

    /// Makes a ring and starts it.
    func start(_ ring: Int, size: Int = 16, isEnabled: Bool = true) throws {
        try begin(ring, size: size)
        try send(18, words: UInt32(ring), isEnabled ? 1 : 0)
    }

    /// The same, before it is enabled.
    func begin(_ ring: Int, size: Int) throws {
        let start = ring * 0x8000
        let areas = VirtqueueAreas(in: region, at: start, size: size, features: features)
        queues[ring] =
            areas.isPacked
            ? RingDriver(PackedDriverRing(initialising: areas, features: features))
            : RingDriver(SplitDriverRing(initialising: areas, features: features))
        try send(8, words: UInt32(ring), UInt32(size))
        try send(10, words: UInt32(ring), areas.isPacked ? 0x8000 : 0)
        let user = { (area: RingArea) in Self.userBase + UInt64(area.offset) }
        let number = UInt64(UInt32(ring))
        try send(9, number, user(areas.descriptors), user(areas.device), user(areas.driver), 0)
        try send(13, UInt64(ring), descriptors: [calls[ring].descriptor])
        try send(14, UInt64(ring), descriptors: [errors[ring].descriptor])
        try send(12, UInt64(ring), descriptors: [kicks[ring].descriptor])
    }

    /// Starts a ring again that was stopped; what the driver has in it stays.
    func resume(_ ring: Int, base: UInt32) throws {
        try send(10, words: UInt32(ring), base)
        try send(12, UInt64(ring), descriptors: [kicks[ring].descriptor])
    }

    /// Another region beside the first: a new table.
    func addMoreMemory() throws {
        let more = try SealedMemory("more", byteCount: SharedRegion.pageSize, final: false)
        try send(37, 0, Self.guestBase << 1, UInt64(more.byteCount), Self.userBase >> 1, 0, descriptors: [more.descriptor])
    }

    /// The same memory once more, in a table of its own: the back end maps it anew.
    func sendTable() throws {
        let region: [UInt64] = [Self.guestBase, UInt64(self.region.byteCount), Self.userBase, 0]
        _ = try exchange(5, bytes(1, 8) + region.flatMap { bytes($0, 8) }, [file])
    }

    func removeMoreMemory() throws {
        try send(38, 0, Self.guestBase << 1, UInt64(SharedRegion.pageSize), Self.userBase >> 1, 0)
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
        lastAnswer = answer
        if size == 8, code != 11, expectsAgreement { #expect(answer.allSatisfy { $0 == 0 }, "message \(code) was refused") }
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
        thread.join()
    }
}

// MARK: Frames

extension VhostDriver {
    func run(_ offset: Int, _ count: Int) -> GuestRun {
        GuestRun(address: Self.guestBase + UInt64(offset), byteCount: UInt32(count))
    }

    /// Where a test's page of data begins.
    func place(_ page: Int) -> Int { Self.dataStart + page * SharedRegion.pageSize }

    /// Lays a frame with its header out at a page of the data, cut so, and offers it for sending.
    @discardableResult
    func send(
        frame bytes: [UInt8], _ header: NetworkHeader = NetworkHeader(), page: Int = 0, cut: [Int] = [], on ring: Int = 1
    ) throws -> ChainTicket {
        header.store(region, at: place(page))
        region.write(bytes, at: place(page) + NetworkHeader.byteCount)
        var chain = DescriptorChain()
        var done = 0
        for count in cut + [NetworkHeader.byteCount + bytes.count - cut.reduce(0, +)] where count > 0 {
            chain.appendReadable(run(place(page) + done, count))
            done += count
        }
        return try offer(chain, on: ring)
    }

    /// Gives memory for frames: so many bytes at a page of the data, cut so.
    @discardableResult
    func give(_ count: Int, page: Int, cut: [Int] = [], on ring: Int = 0) throws -> ChainTicket {
        var chain = DescriptorChain()
        var done = 0
        for part in cut + [count - cut.reduce(0, +)] {
            chain.appendWritable(run(place(page) + done, part))
            done += part
        }
        return try offer(chain, on: ring)
    }

    /// Offers a chain and kicks if that is wanted.
    @discardableResult
    func offer(_ chain: DescriptorChain, on ring: Int) throws -> ChainTicket {
        let queue = try #require(queues[ring])
        let ticket = try #require(queue.offer(chain))
        if queue.publish() { kicks[ring].ring() }
        return ticket
    }

    /// The next used chain.
    func reap(on ring: Int) throws -> UsedChain {
        let queue = try #require(queues[ring])
        var used: UsedChain?
        _ = try eventually(30_000) {
            used = try queue.reap()
            return used != nil
        }
        return try #require(used, "no answer")
    }

    /// Expects that this chain is used next.
    func expectUsed(_ ticket: ChainTicket, written: UInt32, on ring: Int) throws {
        let used = try reap(on: ring)
        #expect(used.ticket == ticket && used.written == written, "\(used)")
    }

    /// The header at a page of the data.
    func header(page: Int) -> NetworkHeader {
        var bytes = InlineArray<12, UInt8>(repeating: 0)
        for (index, byte) in region.bytes(at: place(page), count: 12).enumerated() { bytes[index] = byte }
        return NetworkHeader(bytes)
    }
}
