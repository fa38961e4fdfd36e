// The log of dirty pages as a front end shares it while its guest migrates: mapped here, and never longer than what is
// certain to stay.

import LinuxSystem
import SharedMemory
import VirtioRing

/// Where a ring's device notes what it writes into the guest's memory.
public struct VhostLogging: Sendable {
    /// For what requests have written: data and statuses.
    public let log: DirtyLog
    /// For the ring itself; nil: that is not logged.
    public let ring: RingLog?
    /// Written when something was marked; nil: nobody wants to know.
    public let signal: Descriptor?
}

extension DirtyLog {
    /// Maps a log.
    init(mapping descriptor: Descriptor, byteCount: UInt64, offset: UInt64) throws(VhostUserError) {
        let (end, isBeyond) = offset.addingReportingOverflow(byteCount)
        guard byteCount > 0, offset % 8 == 0, !isBeyond, end <= VhostLimits.mappedBytes else {
            throw .badLog(byteCount: byteCount, offset: offset)
        }
        guard descriptor.cannotShrink else { throw .logMayShrink }
        let held = descriptor.fileByteCount
        guard held >= end else { throw .shortFile(byteCount: held, needed: end) }
        do throws(Errno) {
            let region = try SharedRegion(mapping: descriptor, byteCount: SharedRegion.wholePages(Int(end)), writable: true)
            self.init(region, at: Int(offset), byteCount: Int(byteCount))
        } catch { throw .cannotMap(error) }
    }

    /// Whether there are bits for all of the guest's memory: what is marked nowhere would be lost on the way.
    func check(_ memory: VhostMemory) throws(VhostUserError) {
        for entry in memory.entries where !covers(entry.region.guestAddress, byteCount: entry.region.byteCount) {
            throw .shortLog(pages: pageCount, guest: entry.region.guestAddress)
        }
    }
}

extension VhostMemory {
    /// The guest's name for a byte that the front end named by its own; nil: there is no such byte.
    func guestAddress(ofUser address: UInt64) -> UInt64? {
        let entry = entries.first { $0.region.userAddress <= address && address - $0.region.userAddress < $0.region.byteCount }
        return entry.map { $0.region.guestAddress + (address - $0.region.userAddress) }
    }
}
