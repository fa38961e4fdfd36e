// Headers and status bytes of a chain, wherever the driver has cut it: any structure may lie across descriptors and
// across regions (VIRTIO_F_ANY_LAYOUT). Data goes another way, by bus segments.

import SharedMemory
import VirtioWire

extension DescriptorChain {
    /// Loads a structure from `position` of the bytes to be read, each byte once.
    @inlinable
    public func load<S: WireStructure, Memory: GuestMemory>(
        _ structure: inout S, at position: UInt64 = 0, from memory: Memory
    ) -> GuestReach {
        var bytes = S.Bytes.zero
        let reach = visit(0..<readable, at: position, count: S.Bytes.byteCount, memory, forWriting: false) {
            region, offset, count, place in
            if count == S.Bytes.byteCount {
                region.copyIn(offset, into: &bytes, byteCount: count)
            } else {
                for step in 0..<count { bytes.setByte(place &+ step, to: region.load(offset &+ step)) }
            }
        }
        if reach == .here { structure = S(bytes) }
        return reach
    }

    /// Stores a structure at `position` of the bytes to be written.
    @inlinable
    public func store<S: WireStructure, Memory: GuestMemory>(
        _ structure: S, at position: UInt64, to memory: Memory
    ) -> GuestReach {
        let bytes = structure.bytes
        return visit(readable..<used, at: position, count: S.Bytes.byteCount, memory, forWriting: true) {
            region, offset, count, place in
            for step in 0..<count { region.store(bytes.byte(place &+ step), at: offset &+ step) }
        }
    }

    /// Stores the last byte to be written, which is where a disk's status belongs.
    @inlinable
    public func storeLastByte<Memory: GuestMemory>(_ value: UInt8, to memory: Memory) -> GuestReach {
        guard readable < used else { return .short }
        let last = room[used - 1]
        let run = GuestRun(address: last.address &+ UInt64(last.byteCount &- 1), byteCount: 1)
        switch memory.piece(run, forWriting: true) {
        case .later: return .later
        case .outside: return .outside
        case .here(let region, let offset, _):
            region.store(value, at: offset)
            return .here
        }
    }

    /// Goes through `count` bytes from `position` of some runs, piece by piece; nothing is done before all are there.
    @inlinable @inline(__always)
    func visit<Memory: GuestMemory>(
        _ indices: Range<Int>, at position: UInt64, count: Int, _ memory: Memory, forWriting: Bool,
        _ body: (SharedRegion, _ offset: Int, _ count: Int, _ place: Int) -> Void
    ) -> GuestReach {
        let total = forWriting ? writableTotal : readableTotal
        guard position <= total, UInt64(count) <= total &- position else { return .short }
        var index = indices.lowerBound
        var skip = position
        while index < indices.upperBound, skip >= UInt64(room[index].byteCount) {
            skip &-= UInt64(room[index].byteCount)
            index &+= 1
        }
        // What lies in one piece, as nearly all do, is looked up once.
        if index < indices.upperBound, UInt64(room[index].byteCount) &- skip >= UInt64(count) {
            let run = GuestRun(address: room[index].address &+ skip, byteCount: UInt32(truncatingIfNeeded: count))
            switch memory.piece(run, forWriting: forWriting) {
            case .later: return .later
            case .outside: return .outside
            case .here(let region, let offset, let found):
                if found == run.byteCount {
                    body(region, offset, count, 0)
                    return .here
                }
            }
        }
        return visitPieces(index, skip, count, memory, forWriting, body)
    }

    /// Twice through the same pieces: to see that all are there, and to do it.
    @inlinable
    func visitPieces<Memory: GuestMemory>(
        _ first: Int, _ skip: UInt64, _ count: Int, _ memory: Memory, _ forWriting: Bool,
        _ body: (SharedRegion, _ offset: Int, _ count: Int, _ place: Int) -> Void
    ) -> GuestReach {
        for isTrial in [true, false] {
            var (index, skip, place) = (first, skip, 0)
            while place < count, index < used {
                let left = min(UInt64(count - place), UInt64(room[index].byteCount) - skip)
                let run = GuestRun(address: room[index].address &+ skip, byteCount: UInt32(truncatingIfNeeded: left))
                switch memory.piece(run, forWriting: forWriting) {
                case .later: return .later
                case .outside: return .outside
                case .here(let region, let offset, let found):
                    guard found > 0, found <= run.byteCount else { return .outside }
                    if !isTrial { body(region, offset, Int(found), place) }
                    place += Int(found)
                    skip += UInt64(found)
                }
                if skip == UInt64(room[index].byteCount) {
                    index += 1
                    skip = 0
                }
            }
        }
        return .here
    }
}
