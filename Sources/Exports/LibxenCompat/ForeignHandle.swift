// libxenforeignmemory: another domain's pages by their frame numbers, for domain 0 (/dev/xen/privcmd), and its
// functions as xenforeignmemory.h declares them.

import CLibxenCompat
import Glibc
import Hypervisor
import LinuxSystem
import Loopback
import SharedMemory
import Synchronization
import XenTypes

/// An open `xenforeignmemory_handle`.
final class ForeignHandle: OpenHandle, @unchecked Sendable {
    private struct Mapped {
        /// Pages laid side by side, those that could not be had among them.
        let count: Int
        let pages: [LinkedPage]
        let placement: Placement
    }
    private let mapped = Mutex<[UInt: Mapped]>([:])

    /// Pages in one call.
    static let mostPages = 1 << 20

    /// What is to be mapped, and how.
    @safe struct Wish {
        let domain: UInt32
        let protection: Int32
        /// Where, whatever is there; nil: anywhere.
        var place: UnsafeMutableRawPointer?
        let frames: [UInt]
        /// Whether a page that cannot be had is told by its error and left out, and the others are mapped.
        let toleratesMissing: Bool
    }

    /// Maps pages side by side: the address, and for each 0 or a negative error number.
    func map(_ wish: Wish) throws(LinkFailure) -> (address: UInt, errors: [Int32]) {
        guard let number = UInt16(exactly: wish.domain) else {
            throw LinkFailure(.noSuchProcess, "domain \(wish.domain): no such domain")
        }
        if let only = restrictedTo, only.rawValue != number {
            throw LinkFailure(Errno(EPERM), "domain \(number): the handle was restricted to domain \(only)")
        }
        guard link.domain == .zero else { throw LinkFailure(Errno(EPERM), "only domain 0 may map others' pages") }
        guard !wish.frames.isEmpty, wish.frames.count <= Self.mostPages else {
            throw LinkFailure(.invalidArgument, "\(wish.frames.count) pages at once")
        }
        let access: GrantAccess = wish.protection & PROT_WRITE != 0 ? .readWrite : .readOnly
        // A number that is too large is nobody's frame, as the largest is.
        let frames = wish.frames.map { UInt32(exactly: $0) ?? UInt32.max }
        let results = try link.mapForeign(frames, of: DomainID(number), access: access)
        let pages = results.map { try? $0.get() }
        let had = pages.compactMap(\.self)
        do throws(LinkFailure) {
            let errors = try errors(results, DomainID(number), wish)
            var pieces: [Piece?] = []
            for page in pages {
                if let page {
                    pieces.append(Piece(region: try link.region(of: page), offset: page.offset))
                } else {
                    pieces.append(nil)
                }
            }
            // SAFETY: a place that the caller gives is its own.
            let placement = try unsafe Placement.lay(pieces, at: wish.place)
            mapped.withLock { $0[placement.address] = Mapped(count: frames.count, pages: had, placement: placement) }
            return (placement.address, errors)
        } catch {
            link.unmap(had)
            throw error
        }
    }

    private func errors(
        _ results: [Result<LinkedPage, GrantStatus>], _ domain: DomainID, _ wish: Wish
    ) throws(LinkFailure) -> [Int32] {
        var errors: [Int32] = []
        for (frame, result) in zip(wish.frames, results) {
            guard case .failure(let status) = result else {
                errors.append(0)
                continue
            }
            if status == .badDomain { throw LinkFailure(.noSuchProcess, "domain \(domain): no such domain") }
            let error = status == .permissionDenied ? Errno(EPERM) : Errno.invalidArgument
            guard wish.toleratesMissing else { throw LinkFailure(error, "frame \(frame) of domain \(domain): \(status)") }
            errors.append(-error.rawValue)
        }
        return errors
    }

    /// Ends what was mapped at `address` by one call; false if that is not what is there.
    func unmap(_ address: UInt, count: Int) -> Bool {
        let ended = mapped.withLock { mapped -> Mapped? in
            guard let found = mapped[address], found.count == count else { return nil }
            return mapped.removeValue(forKey: address)
        }
        guard let ended else { return false }
        ended.placement.unmap()
        link.unmap(ended.pages)
        return true
    }

    /// As privcmd's IOCTL_PRIVCMD_RESTRICT: twice to the same domain is once.
    func restrictOnce(to domain: UInt16) throws(LinkFailure) {
        guard restrict(to: domain) || restrictedTo?.rawValue == domain else {
            throw LinkFailure(.invalidArgument, "the handle was restricted to another domain")
        }
    }

    override func restrictAll(to domain: UInt16) throws(LinkFailure) { try restrictOnce(to: domain) }
}

/// See xenforeignmemory.h.
@c @implementation
public func xenforeignmemory_open(_ logger: UnsafeMutablePointer<xentoollog_logger>?, _ open_flags: UInt32) -> OpaquePointer? {
    opening(logger, "xenforeignmemory") { ForeignHandle($0) }
}

/// See xenforeignmemory.h.
@c @implementation
public func xenforeignmemory_close(_ fmem: OpaquePointer?) -> Int32 { closing(fmem, ForeignHandle.self) }

/// See xenforeignmemory.h.
@c @implementation
public func xenforeignmemory_map(
    _ fmem: OpaquePointer?, _ dom: UInt32, _ prot: Int32, _ pages: Int, _ arr: UnsafePointer<xen_pfn_t>?,
    _ err: UnsafeMutablePointer<Int32>?
) -> UnsafeMutableRawPointer? {
    // SAFETY: the same call, with the same pointers.
    unsafe xenforeignmemory_map2(fmem, dom, nil, prot, 0, pages, arr, err)
}

/// See xenforeignmemory.h. A place is a hint unless `MAP_FIXED` is among the flags.
@c @implementation
public func xenforeignmemory_map2(
    _ fmem: OpaquePointer?, _ dom: UInt32, _ addr: UnsafeMutableRawPointer?, _ prot: Int32, _ flags: Int32, _ pages: Int,
    _ arr: UnsafePointer<xen_pfn_t>?, _ err: UnsafeMutablePointer<Int32>?
) -> UnsafeMutableRawPointer? {
    // SAFETY: `pages` numbers of the caller's own, and room for as many errors, as it says beside the pointers.
    let result = speaking(fmem, ForeignHandle.self, "mapping pages of domain \(dom)") { (handle) throws(LinkFailure) in
        guard let arr = unsafe arr, pages > 0, pages <= ForeignHandle.mostPages else {
            throw LinkFailure(.invalidArgument, "\(pages) pages at once")
        }
        return try handle.map(
            unsafe ForeignHandle.Wish(
                domain: dom, protection: prot, place: flags & MAP_FIXED != 0 ? addr : nil,
                frames: UnsafeBufferPointer(start: arr, count: pages).map { UInt($0) }, toleratesMissing: err != nil))
    }
    guard let result else { return nil }
    for (index, error) in result.errors.enumerated() { unsafe err?[index] = error }
    return unsafe UnsafeMutableRawPointer(bitPattern: result.address)
}

/// See xenforeignmemory.h.
@c @implementation
public func xenforeignmemory_unmap(_ fmem: OpaquePointer?, _ addr: UnsafeMutableRawPointer?, _ pages: Int) -> Int32 {
    answering { () throws(LinkFailure) in
        let handle = try usable(fmem, ForeignHandle.self)
        if handle.unmap(UInt(bitPattern: addr), count: pages) { return 0 }
        guard pages > 0, pages <= ForeignHandle.mostPages else { throw LinkFailure(.invalidArgument, "\(pages) pages") }
        // Upstream's is munmap and nothing else. SAFETY: the caller's own memory, which it gives up.
        if unsafe munmap(addr, pages * SharedRegion.pageSize) != 0 { throw LinkFailure(.current, "munmap") }
        return 0
    }
}

/// See xenforeignmemory.h.
@c @implementation
public func xenforeignmemory_restrict(_ fmem: OpaquePointer?, _ domid: domid_t) -> Int32 {
    answering { () throws(LinkFailure) in
        try usable(fmem, ForeignHandle.self).restrictOnce(to: domid)
        return 0
    }
}

/// See xenforeignmemory.h. What a kernel without the call answers: no table, no page of an I/O server is here to map.
@c @implementation
public func xenforeignmemory_map_resource(
    _ fmem: OpaquePointer?, _ domid: domid_t, _ type: UInt32, _ id: UInt32, _ frame: UInt, _ nr_frames: UInt,
    _ paddr: UnsafeMutablePointer<UnsafeMutableRawPointer?>?, _ prot: Int32, _ flags: Int32
) -> OpaquePointer? {
    errno = EOPNOTSUPP
    return nil
}

/// See xenforeignmemory.h.
@c @implementation
public func xenforeignmemory_unmap_resource(_ fmem: OpaquePointer?, _ fres: OpaquePointer?) -> Int32 { 0 }

/// See xenforeignmemory.h.
@c @implementation
public func xenforeignmemory_resource_size(
    _ fmem: OpaquePointer?, _ domid: domid_t, _ type: UInt32, _ id: UInt32, _ size: UnsafeMutablePointer<Int>?
) -> Int32 {
    errno = EOPNOTSUPP
    return -1
}
