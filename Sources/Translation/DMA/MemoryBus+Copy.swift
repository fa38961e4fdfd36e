// A driver's own look at what it gives a device: the processor's copies to and from bus memory. Bulk data: each byte of
// a page that a peer writes may be loaded more than once, so only the copy may be decided on.

import FrameMaps
import SharedMemory

extension MemoryBus {
    /// Copies what lies in `segment` to `offset` of `region`; false if it faults, or if there is no room for it there.
    public func read(_ segment: BusSegment, into region: SharedRegion, at offset: Int) -> Bool {
        guard offset >= 0 && Int(segment.byteCount) <= region.byteCount - offset else { return false }
        var rest = segment
        var done = offset
        while rest.byteCount > 0 {
            // SAFETY: a run has no more bytes than asked for, which are in `region`, as checked above; its memory is
            // attached for the call.
            guard let run = unsafe resolveRun(rest, .toDevice) else { return false }
            let count = unsafe min(run.byteCount, rest.byteCount)
            unsafe (region.unsafeBase + done).copyMemory(from: run.memory, byteCount: Int(count))
            done += Int(count)
            guard rest.drop(count) else { return false }
        }
        return true
    }

    /// Copies the bytes at `offset` of `region` to `segment`; false if it faults, or if there are not so many bytes.
    public func write(_ segment: BusSegment, from region: SharedRegion, at offset: Int) -> Bool {
        guard offset >= 0 && Int(segment.byteCount) <= region.byteCount - offset else { return false }
        var rest = segment
        var done = offset
        while rest.byteCount > 0 {
            // SAFETY: a run has no more bytes than asked for, which are in `region`, as checked above; its memory is
            // attached for the call.
            guard let run = unsafe resolveRun(rest, .fromDevice) else { return false }
            let count = unsafe min(run.byteCount, rest.byteCount)
            unsafe run.memory.copyMemory(from: region.unsafeBase + done, byteCount: Int(count))
            done += Int(count)
            guard rest.drop(count) else { return false }
        }
        return true
    }
}

extension BusSegment {
    /// Takes `count` bytes off its front; false if the address would leave the bus.
    fileprivate mutating func drop(_ count: UInt32) -> Bool {
        guard let next = address.advanced(by: UInt64(count)) else { return false }
        address = next
        byteCount -= count
        return true
    }
}
