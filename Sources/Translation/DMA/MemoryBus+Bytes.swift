// Parts of a segment, by the bytes in front of them: what a driver does with packets that lie in several segments.

import FrameMaps
import SharedMemory

extension MemoryBus {
    /// What lies `skip` bytes behind a segment's start, and how many bytes from there on are in one run here; nil if it
    /// faults.
    private func run(_ segment: BusSegment, behind skip: Int, _ direction: DMADirection) -> (
        memory: UnsafeMutableRawPointer, byteCount: Int
    )? {
        // No bytes are left behind the last one: a run of none would be asked for without end.
        guard skip >= 0, skip < Int(segment.byteCount), let address = segment.address.advanced(by: UInt64(skip)) else {
            return nil
        }
        let rest = BusSegment(address: address, byteCount: segment.byteCount - UInt32(skip))
        return unsafe resolveRun(rest, direction).map { unsafe ($0.memory, Int($0.byteCount)) }
    }

    /// Copies the segment's first `count` bytes to `offset` of `region`; how many it was: fewer only if one faults,
    /// none if there is no room for them.
    public func readHead(_ segment: BusSegment, count: Int, into region: SharedRegion, at offset: Int) -> Int {
        guard offset >= 0 && count >= 0 && count <= region.byteCount - offset else { return 0 }
        var done = 0
        while done < count {
            guard let run = unsafe run(segment, behind: done, .toDevice) else { return done }
            let moved = unsafe min(run.byteCount, count - done)
            unsafe (region.unsafeBase + offset + done).copyMemory(from: run.memory, byteCount: moved)
            done += moved
        }
        return done
    }

    /// Adds the segment's bytes of `range` to `sum`; false if one faults.
    public func add(_ segment: BusSegment, _ range: Range<Int>, to sum: inout WordSum) -> Bool {
        if range.lowerBound < 0 { return false }
        var skip = range.lowerBound
        while skip < range.upperBound {
            guard let run = unsafe run(segment, behind: skip, .toDevice) else { return false }
            let count = unsafe min(run.byteCount, range.upperBound - skip)
            unsafe sum.add(run.memory, count: count)
            skip += count
        }
        return true
    }

    /// Stores a word's upper half `high.skip` bytes behind a segment's start, and its lower half in the same way;
    /// false, storing nothing, if one of both faults.
    public func store(
        _ word: UInt16, high: (part: BusSegment, skip: Int), low: (part: BusSegment, skip: Int)
    ) -> Bool {
        guard let first = unsafe run(high.part, behind: high.skip, .fromDevice),
            let second = unsafe run(low.part, behind: low.skip, .fromDevice)
        else { return false }
        unsafe first.memory.storeBytes(of: UInt8(word >> 8), as: UInt8.self)
        unsafe second.memory.storeBytes(of: UInt8(word & 0xFF), as: UInt8.self)
        return true
    }

    /// Whether the whole segment lies in one piece in this process and the device may use it so. A few nanoseconds.
    @inlinable @inline(__always)
    public func isInOnePiece(_ segment: BusSegment, _ direction: DMADirection) -> Bool {
        unsafe resolve(segment, direction) != nil
    }
}

extension DMADevice {
    private func memory(_ piece: PagePiece, behind skip: Int, writing: Bool) -> UnsafeMutableRawPointer? {
        guard skip >= 0, skip < Int(piece.byteCount), UInt64(piece.offset) < frameByteCount else { return nil }
        var rest = piece
        // What wraps leaves its page, as does what lies beyond it.
        let (offset, wraps) = piece.offset.addingReportingOverflow(UInt32(skip))
        if wraps { return nil }
        rest.offset = offset
        rest.byteCount -= UInt32(skip)
        // SAFETY: handed on as it is; whoever uses it stays in the piece.
        return unsafe memory(rest, writing: writing)
    }

    /// Copies the piece's first `count` bytes to `offset` of `region`; how many it was: none if there is no such page,
    /// it has not so many, or there is no room for them.
    public func readHead(_ piece: PagePiece, count: Int, into region: SharedRegion, at offset: Int) -> Int {
        // SAFETY: the piece has `count` bytes at `memory`, and the region has room for them.
        guard count > 0, count <= Int(piece.byteCount), offset >= 0, count <= region.byteCount - offset,
            let memory = unsafe memory(piece, writing: false)
        else { return 0 }
        unsafe (region.unsafeBase + offset).copyMemory(from: memory, byteCount: count)
        return count
    }

    /// Adds the piece's bytes of `range` to `sum`; false if there is no such page, or it has no such bytes.
    public func add(_ piece: PagePiece, _ range: Range<Int>, to sum: inout WordSum) -> Bool {
        if range.isEmpty { return true }
        if range.upperBound > Int(piece.byteCount) { return false }
        // SAFETY: all of the range lies behind `memory` in the piece.
        guard let memory = unsafe memory(piece, behind: range.lowerBound, writing: false) else { return false }
        unsafe sum.add(memory, count: range.count)
        return true
    }

    /// Stores a word's upper half `high.skip` bytes behind a piece's start, and its lower half in the same way; false,
    /// storing nothing, if one of both is in no page, or in one that may not be written.
    public func store(_ word: UInt16, high: (part: PagePiece, skip: Int), low: (part: PagePiece, skip: Int)) -> Bool {
        // SAFETY: one byte each, of pieces that have them and may be written.
        guard let first = unsafe memory(high.part, behind: high.skip, writing: true),
            let second = unsafe memory(low.part, behind: low.skip, writing: true)
        else { return false }
        unsafe first.storeBytes(of: UInt8(word >> 8), as: UInt8.self)
        unsafe second.storeBytes(of: UInt8(word & 0xFF), as: UInt8.self)
        return true
    }
}
