// What Xen checks of a copy before it looks at any grant (`GNTST_bad_copy_arg`).

import SharedMemory

extension GrantCopy {
    /// Whether both ends lie within one page each and inside their regions, the destination may be written, and at
    /// least one end is a grant.
    public var hasValidRanges: Bool {
        guard byteCount >= 0, byteCount <= SharedRegion.pageSize else { return false }
        if case .local = source, case .local = destination { return false }
        return isValid(source, written: false) && isValid(destination, written: true)
    }

    private func isValid(_ end: End, written: Bool) -> Bool {
        switch end {
        case .local(let region, let offset):
            guard offset >= 0, offset <= region.byteCount, byteCount <= region.byteCount - offset else { return false }
            return fitsInPage(offset % SharedRegion.pageSize) && (!written || region.isWritable)
        case .grant(_, _, let offset):
            return offset >= 0 && offset <= SharedRegion.pageSize && fitsInPage(offset)
        }
    }

    private func fitsInPage(_ offset: Int) -> Bool { byteCount <= SharedRegion.pageSize - offset }
}
