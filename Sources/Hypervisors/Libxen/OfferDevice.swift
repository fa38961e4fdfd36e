// /dev/xen/gntalloc: this process's pages for a peer.

import CXen
import Glibc
import Hypervisor
import LinuxSystem
import SharedMemory
import Synchronization
import XenTypes

/// An open libxengnttab share handle.
///
/// SAFETY: opened by `init`, closed by `deinit`; each region that is offered keeps this object, so that none outlives
/// it. On Linux the library keeps nothing but the descriptor, and the kernel locks; so calls from several threads may
/// overlap.
@safe final class OfferDevice: @unchecked Sendable {
    private let handle: OpaquePointer

    init() throws(HypervisorError) {
        guard let handle = unsafe xengntshr_open(nil, 0) else {
            let error = Errno.current
            throw .system(
                error.rawValue == ENOENT ? "there is no /dev/xen/gntalloc: load module xen-gntalloc" : "\(error)",
                doing: "opening /dev/xen/gntalloc")
        }
        unsafe self.handle = handle
    }

    deinit { unsafe xengntshr_close(handle) }

    /// Opened at first use, once.
    final class Lazy: Sendable {
        private let device = Mutex<OfferDevice?>(nil)
        func get() throws(HypervisorError) -> OfferDevice {
            // Not inside withLock: its closure cannot throw our type and return a reference in Swift 6.3.
            if let open = device.withLock({ $0 }) { return open }
            let made = try OfferDevice()
            return device.withLock { slot in
                if let open = slot { return open }
                slot = made
                return made
            }
        }
    }

    func share(_ count: Int, with peer: DomainID, access: GrantAccess) throws(HypervisorError) -> LibxenOffer {
        guard count > 0, let pages = Int32(exactly: count) else { throw .exhausted("a run of \(count) pages") }
        var references = [UInt32](repeating: 0, count: count)
        // SAFETY: the call fills in `pages` references, and there is room for `count`, which is as many.
        guard
            let base = unsafe xengntshr_share_pages(
                handle, UInt32(peer.rawValue), pages, &references, access == .readWrite ? 1 : 0)
        else {
            let error = Errno.current
            throw .exhausted("\(count) pages cannot be offered: \(error); \(GrantLimits.read())")
        }
        // SAFETY: the library mapped exactly `count` pages at `base`; only the region's end gives them up.
        let region = unsafe SharedRegion(adopting: base, byteCount: count * SharedRegion.pageSize, writable: true) {
            address, bytes in
            _ = unsafe xengntshr_unshare(self.handle, address, UInt32(bytes / SharedRegion.pageSize))
        }
        return LibxenOffer(region: region, references: references.map { GrantReference($0) })
    }
}

/// Pages offered through gntalloc. The kernel ends access when the pages are unmapped here, and defers it while the
/// peer has them; so the offer ends with the last reference to its region.
final class LibxenOffer: OfferedPages {
    let region: SharedRegion
    let references: [GrantReference]

    init(region: SharedRegion, references: [GrantReference]) {
        self.region = region
        self.references = references
    }

    /// gntalloc does not say.
    func isMapped(page: Int) -> Bool? { nil }

    @discardableResult func withdraw() -> Bool { false }
}
