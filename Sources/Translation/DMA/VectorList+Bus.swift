// Bus segments as the kernel wants them.

import SharedMemory

extension VectorList {
    /// Replaces the contents by `segments` as they lie in memory; false if one does not resolve.
    public func load(_ segments: Span<BusSegment>, _ bus: MemoryBus, _ direction: DMADirection) -> Bool {
        removeAll()
        for index in segments.indices {
            let segment = segments[index]
            // SAFETY: all of the segment lies at `memory`.
            if let memory = unsafe bus.resolve(segment, direction) {
                unsafe append(memory, Int(segment.byteCount))
            } else if !appendRuns(segment, bus, direction) {
                return false
            }
        }
        return true
    }

    /// Adds `segments` to what there is, such as a header; false if one does not resolve.
    public func append(_ segments: Span<BusSegment>, _ bus: MemoryBus, _ direction: DMADirection) -> Bool {
        for index in segments.indices {
            guard appendRuns(segments[index], bus, direction) else { return false }
        }
        return true
    }

    /// A segment on a translated bus: in as many pieces as its pages have here.
    private func appendRuns(_ segment: BusSegment, _ bus: MemoryBus, _ direction: DMADirection) -> Bool {
        var rest = segment
        while true {
            // SAFETY: the run's bytes lie at its memory.
            guard let run = unsafe bus.resolveRun(rest, direction) else { return false }
            let count = unsafe run.byteCount
            unsafe append(run.memory, Int(count))
            if count >= rest.byteCount { return true }
            guard let next = rest.address.advanced(by: UInt64(count)) else { return false }
            rest = BusSegment(address: next, byteCount: rest.byteCount - count)
        }
    }
}
