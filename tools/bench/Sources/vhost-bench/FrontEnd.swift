// A vhost-user front end and its driver: connects, agrees, shares memory, runs one split ring of random reads.

import CVhost
import Glibc
import LinuxSystem
import SharedMemory
import VirtioRing
import VirtioWire

struct BenchError: Error, CustomStringConvertible { let description: String }

/// One connection to a back end, with one ring.
final class FrontEnd {
    static let ringSize = 128
    private static let guestBase: UInt64 = 0x1_0000_0000
    private static let userBase: UInt64 = 0x7F00_0000_0000
    private static let features: VirtioFeatures = [.version1, .eventIndex, .indirectDescriptors]
    /// Where the ring, its tables, the headers and the data begin.
    private static let (tables, headers, data) = (0x8000, 0x10000, 0x20000)

    private let socket: Int32
    private let kick = cvhost_eventfd()
    private let call = cvhost_eventfd()
    private let region: SharedRegion
    private let memory: SealedMemory
    private var ring: SplitDriverRing
    /// Blocks of 4 KiB that the disk has.
    private let blocks: UInt64
    private var random: UInt64 = 0x9E37_79B9_7F4A_7C15
    /// Which of the depth's places each chain that is out has.
    private var places = [Int](repeating: 0, count: FrontEnd.ringSize)

    init(_ path: String, byteCount: UInt64) throws {
        blocks = byteCount / 4096
        let total = Self.data + Self.ringSize * 4096
        memory = try SealedMemory("vhost-bench", byteCount: total, final: false)
        region = try SharedRegion(mapping: memory.descriptor, byteCount: total, writable: true)
        let areas = VirtqueueAreas(in: region, size: Self.ringSize, features: Self.features)
        let tables = DriverTables(
            RingArea(region, at: Self.tables), at: Self.guestBase + UInt64(Self.tables), entries: 4, ringSize: Self.ringSize)
        ring = SplitDriverRing(initialising: areas, features: Self.features, tables: tables)
        socket = try Self.connect(path)
        try agree(areas)
    }

    deinit {
        for descriptor in [socket, kick, call] { close(descriptor) }
    }

    /// The back end may still be starting.
    private static func connect(_ path: String) throws -> Int32 {
        for _ in 0..<500 {
            let socket = cvhost_connect(path)
            if socket >= 0 { return socket }
            usleep(20_000)
        }
        throw BenchError(description: "\(path): nobody listens there")
    }

    // MARK: The protocol

    private func agree(_ areas: VirtqueueAreas) throws {
        try send(1, [])
        let offered = try reply(1)
        try send(3, [])
        guard offered & (1 << 30) != 0 else { throw BenchError(description: "the back end knows no protocol features") }
        // Requests are acknowledged, so that each is known to be done.
        try send(15, [])
        guard try reply(15) & 8 != 0 else { throw BenchError(description: "the back end acknowledges nothing") }
        try send(16, [8])
        try acknowledged(2, [(Self.features.rawValue & offered) | 1 << 30])
        guard Self.features.rawValue & ~offered == 0 else {
            throw BenchError(description: "the back end does not offer \(Self.features)")
        }
        try acknowledged(
            5, [1, Self.guestBase, UInt64(region.byteCount), Self.userBase, 0], [memory.descriptor.rawValue])
        try acknowledged(8, [UInt64(Self.ringSize) << 32])
        try acknowledged(10, [0])
        let user = { (area: RingArea) in Self.userBase + UInt64(area.offset) }
        try acknowledged(9, [0, user(areas.descriptors), user(areas.device), user(areas.driver), 0])
        try acknowledged(13, [0], [call])
        try acknowledged(12, [0], [kick])
        try acknowledged(18, [1 << 32])
    }

    private func send(_ code: UInt32, _ words: [UInt64], _ descriptors: [Int32] = [], flags: UInt32 = 1) throws {
        let bytes =
            [code, flags, UInt32(words.count * 8)].flatMap { word in (0..<4).map { UInt8(truncatingIfNeeded: word >> (8 * $0)) } }
            + words.flatMap { word in (0..<8).map { UInt8(truncatingIfNeeded: word >> (8 * $0)) } }
        guard cvhost_send(socket, bytes, bytes.count, descriptors, descriptors.count) == 0 else {
            throw BenchError(description: "message \(code) could not be sent")
        }
    }

    private func reply(_ code: UInt32) throws -> UInt64 {
        var bytes = [UInt8](repeating: 0, count: 20)
        guard cvhost_receive(socket, &bytes, 20) == 0 else { throw BenchError(description: "message \(code) was not answered") }
        return bytes[12...].reversed().reduce(0) { $0 << 8 | UInt64($1) }
    }

    private func acknowledged(_ code: UInt32, _ words: [UInt64], _ descriptors: [Int32] = []) throws {
        try send(code, words, descriptors, flags: 9)
        guard try reply(code) == 0 else { throw BenchError(description: "message \(code) was refused") }
    }

    // MARK: Reads

    private func nextSector() -> UInt64 {
        random ^= random << 13
        random ^= random >> 7
        random ^= random << 17
        return random % blocks * 8
    }

    private func offer(_ place: Int, _ chain: inout DescriptorChain) throws {
        let header = Self.headers + place * 64
        BlockRequestHeader(.read, sector: nextSector()).store(region, at: header)
        region.store(UInt8(0xFF), at: header + 16)
        chain.removeAll()
        chain.appendReadable(GuestRun(address: Self.guestBase + UInt64(header), byteCount: 16))
        chain.appendWritable(GuestRun(address: Self.guestBase + UInt64(Self.data + place * 4096), byteCount: 4096))
        chain.appendWritable(GuestRun(address: Self.guestBase + UInt64(header + 16), byteCount: 1))
        guard let ticket = ring.offer(chain) else { throw BenchError(description: "no room in the ring") }
        places[Int(ticket.id)] = place
    }

    /// Reads with `depth` requests in flight for so long; requests, and the seconds that they took.
    func run(depth: Int, seconds: Double, polls: Bool) throws -> (requests: Double, seconds: Double) {
        var chain = DescriptorChain()
        var (done, out) = (0, 0)
        let clock = ContinuousClock()
        let start = clock.now
        let limit = start + .nanoseconds(Int64(seconds * 1e9))
        var isOver = false
        var turns = 0
        for place in 0..<depth { try offer(place, &chain) }
        out = depth
        if ring.publish() { cvhost_ring(kick) }
        ring.disarm()
        while out > 0 {
            var reaped = 0
            while let used = try ring.reap() {
                let place = places[Int(used.ticket.id)]
                guard region.load(Self.headers + place * 64 + 16, as: UInt8.self) == 0, used.written == 4097 else {
                    throw BenchError(description: "a read failed")
                }
                reaped += 1
                out -= 1
                if !isOver {
                    try offer(place, &chain)
                    out += 1
                }
            }
            done += reaped
            if reaped > 0 {
                if ring.publish() { cvhost_ring(kick) }
                turns += 1
                if turns & 15 == 0 || !polls { isOver = clock.now >= limit }
            } else if !polls, !ring.armAndRecheck() {
                guard cvhost_wait(call) == 0 else { throw BenchError(description: "no answer within five seconds") }
                ring.disarm()
            }
        }
        let time = clock.now - start
        return (Double(done), Double(time.components.seconds) + Double(time.components.attoseconds) / 1e18)
    }
}
