// A frame that lies in several parts of memory. Whoever asks for its bytes gets copies; whoever wants a checksum
// completed gets it stored where it belongs.

import DMA
import SharedMemory

/// Memory in which a frame lies in parts: bus memory in segments, or a driver's pages in pieces.
public protocol FrameMemory {
    /// A part of a frame.
    associatedtype Part
    /// Bytes of a part.
    func byteCount(_ part: Part) -> Int
    /// Copies a part's first `count` bytes to `offset` of `region`; how many it was: fewer only if one faults.
    func readHead(_ part: Part, count: Int, into region: SharedRegion, at offset: Int) -> Int
    /// Adds a part's bytes of `range` to `sum`; false if one faults.
    func add(_ part: Part, _ range: Range<Int>, to sum: inout WordSum) -> Bool
    /// Stores a word's halves, each so many bytes behind its part's start; false, storing nothing, if one of both
    /// faults.
    func store(_ word: UInt16, high: (part: Part, skip: Int), low: (part: Part, skip: Int)) -> Bool
}

extension MemoryBus: FrameMemory {
    /// Bytes of a segment.
    public func byteCount(_ part: BusSegment) -> Int { Int(part.byteCount) }
}

extension DMADevice: FrameMemory {
    /// Bytes of a piece.
    public func byteCount(_ part: PagePiece) -> Int { Int(part.byteCount) }
}

/// What a driver does with a frame's own bytes. The frame is the first `byteCount` bytes of `parts`.
public enum FrameBytes {
    /// Copies at most `count` of the first bytes to `offset` of `target`, private memory; returns how many, fewer only
    /// if one faults.
    public static func copyHead<M: FrameMemory>(
        _ parts: Span<M.Part>, _ count: Int, in memory: M, to target: SharedRegion, at offset: Int
    ) -> Int {
        precondition(offset >= 0 && count <= target.byteCount - offset, "access outside a shared region")
        var done = 0
        for index in parts.indices where done < count {
            let part = parts[index]
            let wanted = min(memory.byteCount(part), count - done)
            let moved = memory.readHead(part, count: wanted, into: target, at: offset + done)
            done += moved
            if moved < wanted { return done }
        }
        return done
    }

    /// Computes the checksum over everything from `checksum.start` on and stores it; false, storing nothing, if it lies
    /// outside. The field holds the pseudo header's sum already, so it is added like everything else.
    public static func complete<M: FrameMemory>(
        _ checksum: FrameOffload.Checksum, _ parts: Span<M.Part>, byteCount: Int, in memory: M
    ) -> Bool {
        let start = Int(checksum.start)
        let field = start + Int(checksum.field)
        var sum = InternetChecksum()
        var position = 0
        for index in parts.indices where position < byteCount {
            let part = parts[index]
            let end = min(memory.byteCount(part), byteCount - position)
            let skip = max(0, start - position)
            if skip < end, !memory.add(part, skip..<end, to: &sum) { return false }
            position += end
        }
        // A sum of zero means "none" to UDP and is the same number as all ones.
        let value = sum.complement == 0 ? 0xFFFF : sum.complement
        guard let high = place(field, parts, byteCount, memory), let low = place(field + 1, parts, byteCount, memory) else {
            return false
        }
        return memory.store(value, high: (parts[high.index], high.skip), low: (parts[low.index], low.skip))
    }

    /// In which part one of the frame's bytes is, and how far behind its start; nil if the frame has none such.
    private static func place<M: FrameMemory>(
        _ place: Int, _ parts: Span<M.Part>, _ byteCount: Int, _ memory: M
    ) -> (index: Int, skip: Int)? {
        var position = 0
        for index in parts.indices where position < byteCount {
            let end = min(memory.byteCount(parts[index]), byteCount - position)
            if place < position + end { return place < position ? nil : (index, place - position) }
            position += end
        }
        return nil
    }
}
