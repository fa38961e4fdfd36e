// A frame that lies in several parts of memory. Whoever asks for its bytes gets copies; whoever wants a checksum completed gets it
// stored where it belongs.

import DMA
import SharedMemory

/// Memory in which a frame lies in parts: bus memory in segments, or a driver's pages in pieces.
public protocol FrameMemory {
    /// A part of a frame.
    associatedtype Part
    /// Bytes of a part.
    func byteCount(_ part: Part) -> Int
    /// What lies `skip` bytes behind a part's start, and how many bytes from there on are in one run here; nil if it faults.
    @unsafe
    func run(_ part: Part, behind skip: Int, writing: Bool) -> (memory: UnsafeMutableRawPointer, byteCount: Int)?
}

extension MemoryBus: FrameMemory {
    /// Bytes of a segment.
    public func byteCount(_ part: BusSegment) -> Int { Int(part.byteCount) }

    /// See `FrameMemory`.
    @unsafe
    public func run(_ part: BusSegment, behind skip: Int, writing: Bool) -> (memory: UnsafeMutableRawPointer, byteCount: Int)? {
        guard let address = part.address.advanced(by: UInt64(skip)) else { return nil }
        let rest = BusSegment(address: address, byteCount: part.byteCount - UInt32(skip))
        return unsafe resolveRun(rest, writing ? .fromDevice : .toDevice).map { unsafe ($0.memory, Int($0.byteCount)) }
    }
}

extension DMADevice: FrameMemory {
    /// Bytes of a piece.
    public func byteCount(_ part: PagePiece) -> Int { Int(part.byteCount) }

    /// See `FrameMemory`.
    @unsafe
    public func run(_ part: PagePiece, behind skip: Int, writing: Bool) -> (memory: UnsafeMutableRawPointer, byteCount: Int)? {
        var rest = part
        rest.offset += UInt32(skip)
        rest.byteCount -= UInt32(skip)
        return unsafe memory(rest, writing: writing).map { unsafe ($0, Int(rest.byteCount)) }
    }
}

/// What a driver does with a frame's own bytes. The frame is the first `byteCount` bytes of `parts`.
public enum FrameBytes {
    /// Copies at most `count` of the first bytes to `offset` of `target`, private memory; returns how many, fewer only if one faults.
    public static func copyHead<M: FrameMemory>(
        _ parts: Span<M.Part>, _ count: Int, in memory: M, to target: SharedRegion, at offset: Int
    ) -> Int {
        precondition(offset >= 0 && count <= target.byteCount - offset, "access outside a shared region")
        var done = 0
        for index in parts.indices where done < count {
            let part = parts[index]
            var skip = 0
            let wanted = min(memory.byteCount(part), count - done)
            while skip < wanted {
                guard let run = unsafe memory.run(part, behind: skip, writing: false) else { return done }
                let moved = unsafe min(run.byteCount, wanted - skip)
                unsafe (target.unsafeBase + offset + done).copyMemory(from: run.memory, byteCount: moved)
                done += moved
                skip += moved
            }
        }
        return done
    }

    /// Computes the checksum over everything from `checksum.start` on and stores it; false, storing nothing, if it lies outside. The field
    /// holds the pseudo header's sum already, so it is added like everything else.
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
            var skip = max(0, start - position)
            while skip < end {
                guard let run = unsafe memory.run(part, behind: skip, writing: false) else { return false }
                let count = unsafe min(run.byteCount, end - skip)
                unsafe sum.add(run.memory, count: count)
                skip += count
            }
            position += end
        }
        // A sum of zero means "none" to UDP and is the same number as all ones.
        let value = sum.complement == 0 ? 0xFFFF : sum.complement
        guard let high = unsafe byte(field, of: parts, byteCount, memory),
            let low = unsafe byte(field + 1, of: parts, byteCount, memory)
        else { return false }
        unsafe high.storeBytes(of: UInt8(value >> 8), as: UInt8.self)
        unsafe low.storeBytes(of: UInt8(value & 0xFF), as: UInt8.self)
        return true
    }

    /// Where one of the frame's bytes may be written; nil if it has none such.
    @unsafe
    private static func byte<M: FrameMemory>(
        _ place: Int, of parts: Span<M.Part>, _ byteCount: Int, _ memory: M
    ) -> UnsafeMutableRawPointer? {
        var position = 0
        for index in parts.indices where position < byteCount {
            let end = min(memory.byteCount(parts[index]), byteCount - position)
            if place < position + end {
                return place < position ? nil : unsafe memory.run(parts[index], behind: place - position, writing: true)?.memory
            }
            position += end
        }
        return nil
    }
}
