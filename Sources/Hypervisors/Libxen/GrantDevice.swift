// /dev/xen/gntdev: a peer's pages in this process. One of two files here that touch memory that they do not own; see
// OfferDevice.

import CXen
import Glibc
import Hypervisor
import LinuxSystem
import SharedMemory
import Synchronization
import XenTypes

/// An open libxengnttab handle.
///
/// SAFETY: `handle` and `logger` are opened by `init` and closed by `deinit`; each region that is mapped keeps this
/// object, so that none outlives them. On Linux the library keeps nothing but the descriptor and the logger, and the
/// kernel locks; so calls from several threads may overlap.
@safe final class GrantDevice: @unchecked Sendable {
    private let handle: OpaquePointer
    private let time: any TimeSource
    /// The library would say each failed mapping on stderr; what went wrong is our callers' to say, once.
    private let logger: UnsafeMutablePointer<xentoollog_logger>?
    private let lastNumber = Atomic<UInt32>(0)
    private let mapped = Atomic<Int>(0)

    init(time: any TimeSource) throws(HypervisorError) {
        self.time = time
        // SAFETY: the logger is there before and until after the handle that is told of it, here, too.
        let logger = unsafe causeway_quiet_logger()
        guard let handle = unsafe xengnttab_open(logger, 0) else {
            let error = Errno.current
            unsafe xtl_logger_destroy(logger)
            throw .system("\(error)", doing: "opening /dev/xen/gntdev")
        }
        unsafe self.logger = logger
        unsafe self.handle = handle
    }

    deinit {
        unsafe xengnttab_close(handle)
        unsafe xtl_logger_destroy(logger)
    }

    /// Pages mapped now.
    var mappedPages: Int { mapped.load(ordering: .relaxed) }

    /// A number for a mapping; libxengnttab knows mappings by address and hides Xen's own handles.
    /// Never one of those that `DeviceGrants` gives.
    func nextNumber() -> UInt32 { lastNumber.wrappingAdd(1, ordering: .relaxed).newValue & ~DeviceGrants.mark }

    /// Maps grants side by side; all or nothing. Unmapped when the region goes, so that a disk operation in flight
    /// keeps its memory.
    ///
    /// A page that Xen has paged out (`GNTST_eagain`) is retried by the kernel, in growing steps for half a minute at
    /// most, and then fails as a bad page (drivers/xen/grant-table.c, `gnttab_retry_eagain_gop`); so no endless retry
    /// is left to us.
    /// - Parameter ending: called right before the pages are unmapped.
    func map(
        _ references: [GrantReference], of granter: DomainID, access: GrantAccess, ending: (@Sendable () -> Void)? = nil
    ) throws(HypervisorError) -> SharedRegion {
        var numbers = references.map(\.rawValue)
        let count = UInt32(numbers.count)
        let protection = access == .readWrite ? PROT_READ | PROT_WRITE : PROT_READ
        // SAFETY: the call reads `count` numbers, of an array of our own.
        guard count > 0,
            let base = unsafe xengnttab_map_domain_grant_refs(
                handle, count, UInt32(granter.rawValue), &numbers, protection)
        else { throw refusal(references, granter, Errno.current) }
        mapped.wrappingAdd(references.count, ordering: .relaxed)
        // SAFETY: the library mapped exactly `count` pages at `base`, and only the region's end unmaps them. The
        // closure keeps the handle.
        return unsafe SharedRegion(
            adopting: base, byteCount: references.count * SharedRegion.pageSize, writable: access == .readWrite
        ) { address, bytes in
            let pages = bytes / SharedRegion.pageSize
            ending?()
            _ = unsafe xengnttab_unmap(self.handle, address, UInt32(pages))
            self.mapped.wrappingSubtract(pages, ordering: .relaxed)
        }
    }

    /// gntdev tells no more than an error number; a full table of ours is told from a grant that Xen refused.
    private func refusal(_ references: [GrantReference], _ granter: DomainID, _ error: Errno) -> HypervisorError {
        switch error.rawValue {
        case ENOMEM, ENOSPC:
            .exhausted(
                "\(references.count) more grants cannot be mapped beside \(mappedPages): \(GrantLimits.read()) (\(error))"
            )
        default:
            .grantRefused(
                references.first ?? GrantReference(0), of: granter,
                error.rawValue == EACCES ? .permissionDenied : .generalError)
        }
    }

    /// Copies by hypercall; one status for each operation.
    func copy(_ operations: [GrantCopy]) throws(HypervisorError) -> [GrantStatus] {
        try CopyBatch.run(operations) { places throws(HypervisorError) in
            var segments: [xengnttab_grant_copy_segment_t] = unsafe []
            // SAFETY: each local end is in its region (`CopyBatch` asks for nothing else), which `operations` keeps for
            // the call. The library fills in the status of as many segments as it is told there are.
            for place in places { unsafe segments.append(segment(operations[place])) }
            guard unsafe xengnttab_grant_copy(handle, UInt32(places.count), &segments) == 0 else {
                throw .system("\(Errno.current)", doing: "copying \(places.count) ranges")
            }
            var statuses: [GrantStatus] = []
            for index in places.indices { statuses.append(unsafe GrantStatus(rawValue: segments[index].status) ?? .generalError) }
            return statuses
        } pause: {
            time.sleep(milliseconds: 10)
        }
    }

    private func segment(_ operation: GrantCopy) -> xengnttab_grant_copy_segment_t {
        // SAFETY: a structure of numbers and two pointers, all of them 0 until they are filled in. What is too long for
        // its field traps; `CopyBatch` has compared all with a page's size.
        var segment = unsafe xengnttab_grant_copy_segment_t()
        unsafe segment.len = UInt16(operation.byteCount)
        if unsafe fill(&segment.source, operation.source) { unsafe segment.flags |= UInt16(GNTCOPY_source_gref) }
        if unsafe fill(&segment.dest, operation.destination) { unsafe segment.flags |= UInt16(GNTCOPY_dest_gref) }
        return unsafe segment
    }

    /// Fills one end in; true if it is a grant.
    private func fill(_ place: inout xengnttab_copy_ptr, _ end: GrantCopy.End) -> Bool {
        switch end {
        case .local(let region, let offset):
            // SAFETY: `hasValidRanges` saw that the range lies in the region, and the caller's operation keeps the
            // region. Which member of the union counts, the flag says that this function's answer becomes.
            unsafe place.virt = region.unsafeBase + offset
            return false
        case .grant(let reference, let granter, let offset):
            unsafe place.foreign.ref = reference.rawValue
            unsafe place.foreign.domid = granter.rawValue
            unsafe place.foreign.offset = UInt16(offset)
            return true
        }
    }
}
