// A frame that lies in several runs of bus memory. Whoever asks for its bytes gets copies; whoever wants a checksum completed gets it
// stored where it belongs.

import DMA
import SharedMemory

/// What a driver does with a frame's own bytes. The frame is the first `byteCount` bytes of `segments`.
public enum BusFrame {
    /// Copies at most `count` of the first bytes to `offset` of `target`, private memory; returns how many, fewer only if one faults.
    public static func copyHead(
        _ segments: Span<BusSegment>, _ count: Int, on bus: MemoryBus, to target: SharedRegion, at offset: Int
    ) -> Int {
        var done = 0
        for index in segments.indices where done < count {
            let part = min(Int(segments[index].byteCount), count - done)
            let piece = BusSegment(address: segments[index].address, byteCount: UInt32(part))
            guard part > 0, bus.read(piece, into: target, at: offset + done) else { return done }
            done += part
        }
        return done
    }

    /// Computes the checksum over everything from `checksum.start` on and stores it; false, storing nothing, if it lies outside. The field
    /// holds the pseudo header's sum already, so it is added like everything else.
    public static func complete(
        _ checksum: FrameOffload.Checksum, _ segments: Span<BusSegment>, byteCount: Int, on bus: MemoryBus
    ) -> Bool {
        let start = Int(checksum.start)
        let field = start + Int(checksum.field)
        var sum = InternetChecksum()
        var position = 0
        var high: BusAddress?
        var low: BusAddress?
        for index in segments.indices where position < byteCount {
            let segment = segments[index]
            let count = min(Int(segment.byteCount), byteCount - position)
            let skip = max(0, start - position)
            if skip < count, let address = segment.address.advanced(by: UInt64(skip)) {
                guard sum.add(BusSegment(address: address, byteCount: UInt32(count - skip)), on: bus) else { return false }
            }
            if field >= position, field < position + count { high = segment.address.advanced(by: UInt64(field - position)) }
            if field + 1 >= position, field + 1 < position + count {
                low = segment.address.advanced(by: UInt64(field + 1 - position))
            }
            position += count
        }
        guard let high, let low else { return false }
        // A sum of zero means "none" to UDP and is the same number as all ones.
        let value = sum.complement == 0 ? 0xFFFF : sum.complement
        return bus.store(UInt8(value >> 8), at: high) && bus.store(UInt8(value & 0xFF), at: low)
    }
}

extension InternetChecksum {
    /// Adds the bytes of `segment`; false if it faults.
    mutating func add(_ segment: BusSegment, on bus: MemoryBus) -> Bool {
        var rest = segment
        while rest.byteCount > 0 {
            guard let run = unsafe bus.resolveRun(rest, .toDevice) else { return false }
            let count = unsafe min(run.byteCount, rest.byteCount)
            unsafe add(run.memory, count: Int(count))
            guard let next = rest.address.advanced(by: UInt64(count)) else { return false }
            rest = BusSegment(address: next, byteCount: rest.byteCount - count)
        }
        return true
    }
}
