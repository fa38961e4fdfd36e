// What goes wrong with a queue's memory, for the log: a device that faults a million times a second costs one line
// (attacks.md PM22).

import DMA
import LinuxSystem

/// Faults and other troubles of one queue that the log has not been told of.
public struct MemoryWatch: Sendable {
    private var faultsTold: UInt64 = 0
    private var lastTold: UInt64?

    /// Nothing has been told.
    public init() {}

    /// The lines to be logged now: none if the last were less than a second ago.
    /// - Parameters:
    ///   - trouble: the queue's own word; taken only when it is told.
    ///   - iommu: where faults are recorded.
    ///   - time: what the second goes by; asked only where there is something to tell.
    public mutating func lines(_ trouble: inout String?, _ iommu: IommuDomain?, _ time: any TimeSource) -> [String] {
        let faults = iommu?.faults.count ?? 0
        guard trouble != nil || faults != faultsTold else { return [] }
        let now = time.nanoseconds
        if let lastTold, now &- lastTold < 1_000_000_000 { return [] }
        lastTold = now
        var lines: [String] = []
        if let line = trouble.take() { lines.append(line) }
        if faults != faultsTold {
            let first = iommu?.takeFaults().first.map { ", the first of them: \($0)" } ?? ""
            lines.append("\(faults - faultsTold) accesses refused by the IOMMU\(first)")
            faultsTold = faults
        }
        return lines
    }
}
