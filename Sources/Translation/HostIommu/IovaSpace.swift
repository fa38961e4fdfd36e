// Which addresses of a device's address space are free. For mappings that live long and cost a system call each: a
// list, looked through from below.

import DMA
import FrameMaps

/// Free addresses, as runs in ascending order. The same calls give the same places.
struct IovaSpace {
    /// First and last byte of each free run. No two touch.
    private(set) var free: [ClosedRange<UInt64>]
    /// All that there is, free or not.
    let addresses: [ClosedRange<UInt64>]
    let granule: UInt64

    /// - Parameters:
    ///   - addresses: what may be given out, ascending, not overlapping. Address 0 never is: it is what an address that
    ///     was never set looks like.
    ///   - granule: a power of two; runs start and end at multiples of it.
    init(addresses: [ClosedRange<UInt64>], granule: UInt64) {
        self.granule = granule
        var runs: [ClosedRange<UInt64>] = []
        for range in addresses {
            let (up, overflow) = max(range.lowerBound, granule).addingReportingOverflow(granule - 1)
            if overflow { continue }
            let start = up & ~(granule - 1)
            // The end of the last whole granule; the top of the address space is one.
            let end = range.upperBound == .max ? .max : ((range.upperBound + 1) & ~(granule - 1)) &- 1
            if start > end || end < granule { continue }
            // Ranges that touch are one.
            if let last = runs.last, last.upperBound &+ 1 == start {
                runs[runs.count - 1] = last.lowerBound...end
            } else {
                runs.append(start...end)
            }
        }
        self.addresses = runs
        free = runs
    }

    /// Bytes of the largest free run (one short if that is the whole space).
    var largest: UInt64 { free.map { $0.upperBound - $0.lowerBound }.max().map { $0 == .max ? $0 : $0 + 1 } ?? 0 }

    /// Takes `byteCount` bytes, a multiple of the granule, at the lowest address that has `residue` in common with the
    /// memory's own below `alignment` (a power of two), so that the IOMMU can use large pages. nil if there are none.
    mutating func take(_ byteCount: UInt64, alignment: UInt64, residue: UInt64) -> UInt64? {
        for index in free.indices {
            let run = free[index]
            let behind = (residue &- run.lowerBound) & (alignment - 1)
            let (start, overflow) = run.lowerBound.addingReportingOverflow(behind)
            if overflow || start > run.upperBound || run.upperBound - start < byteCount - 1 { continue }
            carve(start...start + (byteCount - 1), from: index)
            return start
        }
        return nil
    }

    /// Takes these bytes; false if they are not all free.
    mutating func take(at start: UInt64, _ byteCount: UInt64) -> Bool {
        let (last, overflow) = start.addingReportingOverflow(byteCount - 1)
        guard !overflow, let index = free.firstIndex(where: { $0.upperBound >= last }),
            free[index].lowerBound <= start
        else { return false }
        carve(start...last, from: index)
        return true
    }

    /// Whether these bytes may be given out at all.
    func mayHold(_ start: UInt64, _ byteCount: UInt64) -> Bool {
        let (last, overflow) = start.addingReportingOverflow(byteCount - 1)
        return !overflow && addresses.contains { $0.lowerBound <= start && last <= $0.upperBound }
    }

    /// Gives bytes back that were taken.
    mutating func giveBack(_ start: UInt64, _ byteCount: UInt64) {
        var (first, last) = (start, start + (byteCount - 1))
        let index = free.firstIndex { $0.lowerBound > last } ?? free.endIndex
        var replaced = index..<index
        if index > 0, free[index - 1].upperBound &+ 1 == first {
            first = free[index - 1].lowerBound
            replaced = index - 1..<index
        }
        if index < free.count, last &+ 1 == free[index].lowerBound {
            last = free[index].upperBound
            replaced = replaced.lowerBound..<index + 1
        }
        free.replaceSubrange(replaced, with: [first...last])
    }

    private mutating func carve(_ taken: ClosedRange<UInt64>, from index: Int) {
        let run = free[index]
        var left: [ClosedRange<UInt64>] = []
        if run.lowerBound < taken.lowerBound { left.append(run.lowerBound...taken.lowerBound - 1) }
        if taken.upperBound < run.upperBound { left.append(taken.upperBound + 1...run.upperBound) }
        free.replaceSubrange(index...index, with: left)
    }
}
