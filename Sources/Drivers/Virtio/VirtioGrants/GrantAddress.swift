// Grants as addresses (Linux's CONFIG_XEN_VIRTIO, drivers/xen/grant-dma-ops.c): the uppermost bit, a grant's reference
// in the place of a page's number, the place in the page. Pages side by side have references that follow each other.

import SharedMemory
import VirtioRing
import XenTypes

/// An address that a driver on Xen has from grants.
public enum GrantAddress {
    /// What tells it from others.
    public static let mark: UInt64 = 1 << 63

    /// A byte of a granted page.
    public static func address(_ reference: GrantReference, offset: Int = 0) -> UInt64 {
        mark | UInt64(reference.rawValue) << 12 | UInt64(offset)
    }

    /// The grants that a run lies in; nil: it does not, or they would pass the last reference.
    static func references(_ run: GuestRun) -> ClosedRange<UInt32>? {
        guard run.byteCount > 0 else { return nil }
        let (last, isBeyond) = run.address.addingReportingOverflow(UInt64(run.byteCount - 1))
        guard !isBeyond, run.address & mark != 0 else { return nil }
        let (first, end) = ((run.address & ~mark) >> 12, (last & ~mark) >> 12)
        guard end <= UInt64(UInt32.max) else { return nil }
        return UInt32(first)...UInt32(end)
    }
}
