// What a disk is asked, beside what the chains said.

import BlockDevices
import BlockModel
import DMA
import FuzzSupport
import VirtioMemory
import VirtioModel
import VirtioRig
import VirtioRing
import VirtioWire

@testable import VirtioBlock

/// A disk that ends operations as it is told to, and writes them down.
final class MoodyDisk: BlockDeviceQueue {
    let bus: MemoryBus
    let geometry: BlockGeometry
    /// 0 is done at once, 1 later, 2 fails at once, 3 does not know the operation.
    var mood: UInt8 = 0
    /// Operations that were begun and not looked at yet, in their order.
    var begun: [(operation: DeviceOperation, byteCount: UInt64)] = []
    private(set) var waiting: [UInt32] = []
    var inFlight: Int { waiting.count }

    init(_ bus: MemoryBus, _ geometry: BlockGeometry) {
        self.bus = bus
        self.geometry = geometry
    }

    func submit(_ operation: DeviceOperation, tag: UInt32, segments: Span<BusSegment>) -> DeviceResult? {
        var total: UInt64 = 0
        let isRead = if case .read = operation { true } else { false }
        for index in segments.indices {
            require(bus.isReachable(segments[index], isRead ? .fromDevice : .toDevice), "a segment that faults: \(operation)")
            total += UInt64(segments[index].byteCount)
        }
        require(isWithin(operation, total), "\(operation) of \(total) bytes")
        begun.append((operation, total))
        switch mood {
        case 0: return .done
        case 2: return .failed(.ioError)
        case 3: return .failed(.notSupported)
        default:
            require(!waiting.contains(tag), "tag \(tag) twice")
            waiting.append(tag)
            return nil
        }
    }

    private func isWithin(_ operation: DeviceOperation, _ total: UInt64) -> Bool {
        func fits(_ offset: UInt64, _ count: UInt64) -> Bool {
            offset % 512 == 0 && count % 512 == 0 && count > 0 && offset <= geometry.byteCount
                && count <= geometry.byteCount - offset
        }
        switch operation {
        case .read(let offset): return fits(offset, total)
        case .write(let offset, _): return !geometry.isReadOnly && fits(offset, total)
        case .flush: return geometry.canFlush && total == 0
        case .discard(let offset, let count, _): return !geometry.isReadOnly && total == 0 && fits(offset, count)
        case .writeZeroes(let offset, let count, _): return !geometry.isReadOnly && total == 0 && fits(offset, count)
        }
    }

    /// One that waits, which ends now.
    func takeOne(_ choice: UInt8) -> UInt32? { waiting.isEmpty ? nil : waiting.remove(at: Int(choice) % waiting.count) }
    func close() { require(waiting.isEmpty, "closed with operations in flight") }
}

/// The queue under test and what it should do.
struct Serving<Ring: DeviceRing & ~Copyable>: ~Copyable {
    private let book: RingBook
    private var model: BlockModel<VirtioBlockTransport<ToldRing<Ring>>>
    private let disk: MoodyDisk
    private let features: VirtioFeatures
    /// Chains that were taken and not answered, by their names.
    private var out: [Int: [SlowChain]] = [:]

    init(_ book: RingBook, _ ring: consuming Ring, _ features: VirtioFeatures, _ geometry: BlockGeometry) {
        self.book = book
        self.features = features
        let (bus, entries) = (MemoryBus(), ring.size)
        guard let windows = GuestWindows(rig.map, on: bus) else { fatalError("no windows") }
        disk = MoodyDisk(bus, geometry)
        model = BlockModel(
            VirtioBlockTransport(
                ring: ToldRing(ring, book), rules: VirtioBlockRules(geometry, features), identity: "fuzz", memory: windows, bus: bus
            ),
            disk: disk, capacity: entries, segments: 8, time: .system)
    }

    mutating func step(_ input: inout ByteReader) {
        let code = input.byte()
        switch code % 9 {
        case 0:
            book.driver.describe(VirtioRig.address(&input), VirtioRig.length(&input), flags: UInt64(code >> 4), name: input.byte())
        case 1: book.driver.show(input.byte())
        case 2: request(code, &input)
        case 3:
            // A header near the beginning of the data, of any kind and place.
            let at = VirtioRig.data + 16 * UInt64(code >> 6)
            rig.slow.put(UInt64(input.byte() % 16), 4, at: at)
            rig.slow.put(UInt64(input.byte() % 80) | (code & 0x20 == 0 ? 0 : .max << 40), 8, at: at + 8)
        case 4: rig.describe(&input, isPacked: book.driver.isPacked)
        case 5: rig.scribble(&input)
        case 6: disk.mood = code >> 4 & 3
        case 7:
            guard let tag = disk.takeOne(input.byte()) else { return }
            model.ended(tag: tag, code & 0x80 == 0 ? .done : .failed(.ioError))
            settle()
        default: work()
        }
    }

    /// A request as an honest driver lays it out, with a header that may ask for anything.
    private mutating func request(_ code: UInt8, _ input: inout ByteReader) {
        let (kind, sector, count) = (input.byte() % 16, input.byte() % 72, UInt32(input.byte() % 9) * 512)
        let (header, data, name) = (VirtioRig.data + 256, VirtioRig.data + 512, input.byte())
        rig.slow.put(UInt64(kind), 4, at: header)
        rig.slow.put(UInt64(sector), 8, at: header + 8)
        let isRead = kind == 0 || kind == 8
        // A range, should it be one of those.
        rig.slow.put(UInt64(sector), 8, at: data)
        rig.slow.put(UInt64(count / 512), 4, at: data + 8)
        rig.slow.put(UInt64(code >> 7), 4, at: data + 12)
        book.driver.describe(header, 16, flags: 1, name: name)
        if kind != 4 {
            book.driver.describe(data, [11, 13, 14].contains(kind) ? 16 : count, flags: isRead ? 3 : 1, name: name &+ 1)
        }
        book.driver.describe(0x2_0000 + UInt64(name), 1, flags: 2, name: kind == 4 ? name &+ 1 : name &+ 2)
        book.driver.show(name)
    }

    private mutating func work() {
        let before = book.chains.count
        // What earlier requests went on with since is theirs.
        disk.begun = []
        _ = model.takeRequests()
        // What the disk was asked first of a chain that is new is what the chain says, as long as nobody wrote
        // meanwhile.
        // A head that was answered at once may be shown, and taken, again in the same turn.
        for chain in book.chains[before...] { out[chain.id, default: []].append(chain) }
        if book.chains.count == before + 1, let chain = book.chains.last, areApart(chain), let first = disk.begun.first {
            require(isMeant(first.operation, first.byteCount, by: chain), "\(first) for \(chain)")
        }
        disk.begun = []
        settle()
    }

    /// Whether what was answered meanwhile is none of what the chain says.
    private func areApart(_ chain: SlowChain) -> Bool {
        let given = chain.runs.filter { !$0.isWritable }
        return chain.runs.filter(\.isWritable).allSatisfy { room in
            given.allSatisfy { $0.address >= room.address + room.count || room.address >= $0.address + $0.count }
        }
    }

    /// Whether a chain asks for this, read once more from its bytes.
    private func isMeant(_ operation: DeviceOperation, _ byteCount: UInt64, by chain: SlowChain) -> Bool {
        let readable = chain.runs.filter { !$0.isWritable }
        let head = gather(readable, count: 16, in: rig)
        guard head.count == 16 else { return false }
        let kind = head[..<4].reversed().reduce(0) { $0 << 8 | UInt64($1) }
        let sector = head[8...].reversed().reduce(0) { $0 << 8 | UInt64($1) }
        let (incoming, outgoing) = (
            readable.reduce(0) { $0 + $1.count } &- 16, chain.runs.filter(\.isWritable).reduce(0) { $0 + $1.count } &- 1
        )
        switch operation {
        case .read(let offset): return kind == 0 && offset == sector &* 512 && byteCount == outgoing && incoming == 0
        case .write(let offset, _): return kind == 1 && offset == sector &* 512 && byteCount == incoming && outgoing == 0
        case .flush: return kind == 4 || kind == 1 || [11, 13, 14].contains(kind)
        case .discard(_, _, let isSecure): return kind == (isSecure ? 14 : 11) && incoming % 16 == 0 && incoming > 0
        case .writeZeroes: return kind == 13 && incoming % 16 == 0 && incoming > 0
        }
    }

    /// Every answer is to a chain that is out.
    private mutating func settle() {
        for put in book.puts {
            guard let chain = out[put.id]?.first else { fatalError("an answer to chain \(put.id), which is not out") }
            out[put.id]?.removeFirst()
            let room = chain.runs.filter(\.isWritable).reduce(0) { $0 + Int($1.count) }
            require(put.written <= room, "\(put.written) bytes written of \(room)")
        }
        book.puts = []
        _ = model.publish()
        let left = out.values.reduce(0) { $0 + $1.count }
        require(out.values.allSatisfy { $0.count < 2 }, "a chain is out twice")
        require(left == model.inWork, "\(left) chains, \(model.inWork) requests")
    }

    mutating func end() {
        disk.mood = 0
        model.close()
        while let tag = disk.takeOne(0) {
            model.ended(tag: tag, .done)
            disk.begun = []
        }
        settle()
        require(model.inWork == 0, "\(model.inWork) requests at the end")
    }
}
