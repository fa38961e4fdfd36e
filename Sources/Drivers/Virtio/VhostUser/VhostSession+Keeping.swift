// Memory of this side's own for what is in flight, where the front end keeps none: for a successor of a process that is
// killed, which finds there what it finds in a front end's.

import LinuxSystem
import SharedMemory
import VirtioRing

extension VhostSession {
    /// A ring's part of it; nil: nothing is kept, or the ring is not complete. A ring that begins has an empty one.
    mutating func ownPart(of ring: Int, isPacked: Bool) throws(VhostUserError) -> RingArea? {
        guard keepsRings, rings[ring].isComplete else { return nil }
        if keptRings?.isPacked != isPacked {
            // Rings that run have the one kind only, and another one starts when they have stopped.
            let wanted = VhostInflightArea(
                byteCount: 0, offset: 0, queues: UInt16(clamping: rings.count), queueSize: UInt16(clamping: offer.mostEntries))
            let (area, descriptor) = try VhostInflight.make(wanted, rings: rings.count, isPacked: isPacked)
            keptRings = try VhostInflight(area, descriptor, isPacked: isPacked)
        }
        let part = keptRings?.part(of: ring, entries: rings[ring].size, isPacked: isPacked)
        if let part, !isRecovering { keptRings?.clear(part, isPacked: isPacked) }
        return part
    }
}
