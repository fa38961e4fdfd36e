// Which pages a device has written, what it was refused, and its side where it is a part of this process.

import DMA
import FrameMaps

extension DeviceSpace {
    /// Starts to record which pages are written.
    public func startDirtyTracking() throws(DMABackEndError) {
        try state.withLock { state throws(DMABackEndError) in try state.backEnd.startDirtyTracking() }
    }

    /// Ends it.
    public func stopDirtyTracking() throws(DMABackEndError) {
        try state.withLock { state throws(DMABackEndError) in try state.backEnd.stopDirtyTracking() }
    }

    /// For each page of a range, which must begin and end where mappings do and have no hole, whether a device may have
    /// written it since tracking began or this was last asked.
    public func takeDirty(_ start: Iova, byteCount: UInt64) throws(DMABackEndError) -> [Bool] {
        let (last, overflow) = start.rawValue.addingReportingOverflow(byteCount &- 1)
        guard byteCount > 0, !overflow else { throw .outsideAddresses(start, byteCount: byteCount) }
        return try state.withLock { state throws(DMABackEndError) in
            let hit = state.records.filter { $0.iova <= last && $0.last >= start.rawValue }
            for record in hit where record.iova < start.rawValue || record.last > last {
                throw .cutsMapping(start, byteCount: byteCount, mapped: record.mapped.iova, of: record.mapping.byteCount)
            }
            guard hit.reduce(0, { $0 + $1.mapping.byteCount }) == byteCount else { throw .notMapped }
            var pages: [Bool] = []
            for record in hit { pages += try state.backEnd.takeDirty(record.mapping) }
            return pages
        }
    }

    /// Refused accesses since this was last asked.
    public func takeFaults() -> DMAFaults { state.withLock { $0.backEnd.takeFaults() } }

    /// A device's access to a byte, where the device is a part of this process: where it leads here; nil, and a fault,
    /// if it is refused. Throws `unsupported` for real devices, which do so themselves.
    public func access(_ iova: Iova, writes: Bool) throws(DMABackEndError) -> UInt64? {
        try state.withLock { state throws(DMABackEndError) in
            guard let software = state.backEnd as? SoftwareSpace else {
                throw .unsupported("access in the place of a real device's")
            }
            return software.access(iova, writes: writes)
        }
    }
}
