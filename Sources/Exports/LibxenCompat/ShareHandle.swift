// libxengnttab's producer half: this process's pages for a peer (/dev/xen/gntalloc), and xengntshr_… as xengnttab.h
// declares them.

import CLibxenCompat
import Glibc
import LinuxSystem
import Loopback
import SharedMemory
import Synchronization
import XenTypes

/// An open `xengntshr_handle`.
final class ShareHandle: OpenHandle, @unchecked Sendable {
    private let shares = Mutex<[UInt: LinkedShare]>([:])
    private let event: Descriptor

    init(opening parts: Parts) throws(LinkFailure) {
        event = try idleDescriptor()
        super.init(parts)
    }

    var descriptor: Int32 { event.rawValue }
    override var descriptors: [Int32] { [event.rawValue] }

    /// Makes pages and offers them.
    func share(
        _ count: Int, with domain: UInt32, writable: Bool, notice: GrantHandle.Notice? = nil
    ) throws(LinkFailure) -> LinkedShare {
        if restrictedTo != nil { throw LinkFailure(Errno(ENOTTY), "the handle was restricted") }
        guard let number = UInt16(exactly: domain) else { throw LinkFailure(.noSuchProcess, "domain \(domain): no such domain") }
        let share = try link.share(
            count, with: DomainID(number), access: writable ? .readWrite : .readOnly,
            notice: notice.map { ($0.byte, $0.port) })
        shares.withLock { $0[UInt(share.region.address)] = share }
        return share
    }

    /// Ends what was shared at `address` by one call; false if that is not what is there.
    func unshare(_ address: UInt, count: Int) -> Bool {
        let ended = shares.withLock { shares -> LinkedShare? in
            guard let found = shares[address], found.region.pageCount == count else { return nil }
            return shares.removeValue(forKey: address)
        }
        guard let ended else { return false }
        // Unmapped when `ended` goes, with the byte cleared and the peer rung.
        link.retire(ended)
        return true
    }

    /// What is still shared stays so, as it does when gntalloc is closed; it ends with the process.
    override func end() {
        let left = shares.withLock { Array($0.values) }
        // SAFETY: kept for ever on purpose: the pages are in use by whoever asked for them.
        for share in left { unsafe _ = Unmanaged.passRetained(share) }
    }
}

/// Shares, says so where it fails, and tells the references.
///
/// SAFETY: room for `count` numbers of the caller's own, as it says beside the pointer.
@safe
private func sharing(
    _ handle: OpaquePointer?, _ count: Int32, _ references: UnsafeMutablePointer<UInt32>?,
    _ body: (ShareHandle) throws(LinkFailure) -> LinkedShare
) -> UnsafeMutableRawPointer? {
    let share = speaking(handle, ShareHandle.self, "sharing \(count) pages") { (handle) throws(LinkFailure) in
        guard unsafe references != nil else { throw LinkFailure(.badAddress, "no room for the references") }
        return try body(handle)
    }
    guard let share else { return nil }
    for (index, reference) in share.references.enumerated() { unsafe references?[index] = reference.rawValue }
    return unsafe share.region.unsafeBase
}

/// See xengnttab.h.
@c @implementation
public func xengntshr_open(_ logger: UnsafeMutablePointer<xentoollog_logger>?, _ open_flags: UInt32) -> OpaquePointer? {
    opening(logger, "xengntshr") { (parts) throws(LinkFailure) in try ShareHandle(opening: parts) }
}

/// See xengnttab.h.
@c @implementation
public func xengntshr_close(_ xgs: OpaquePointer?) -> Int32 { closing(xgs, ShareHandle.self) }

/// See xengnttab.h.
@c @implementation
public func xengntshr_fd(_ xgs: OpaquePointer?) -> Int32 {
    answering { () throws(LinkFailure) in try usable(xgs, ShareHandle.self).descriptor }
}

/// See xengnttab.h.
@c @implementation
public func xengntshr_share_pages(
    _ xgs: OpaquePointer?, _ domid: UInt32, _ count: Int32, _ refs: UnsafeMutablePointer<UInt32>?, _ writable: Int32
) -> UnsafeMutableRawPointer? {
    sharing(xgs, count, refs) { (handle) throws(LinkFailure) in
        try handle.share(Int(count), with: domid, writable: writable != 0)
    }
}

/// See xengnttab.h.
@c @implementation
public func xengntshr_share_page_notify(
    _ xgs: OpaquePointer?, _ domid: UInt32, _ ref: UnsafeMutablePointer<UInt32>?, _ writable: Int32, _ notify_offset: UInt32,
    _ notify_port: evtchn_port_t
) -> UnsafeMutableRawPointer? {
    sharing(xgs, 1, ref) { (handle) throws(LinkFailure) in
        try handle.share(1, with: domid, writable: writable != 0, notice: endNotice(notify_offset, notify_port))
    }
}

/// See xengnttab.h.
@c @implementation
public func xengntshr_unshare(_ xgs: OpaquePointer?, _ start_address: UnsafeMutableRawPointer?, _ count: UInt32) -> Int32 {
    answering { () throws(LinkFailure) in
        let handle = try usable(xgs, ShareHandle.self)
        if handle.unshare(UInt(bitPattern: start_address), count: Int(count)) { return 0 }
        // Upstream's is munmap and nothing else, whatever is there; the pages of a part stay shared.
        // SAFETY: the caller's own memory, which it gives up.
        if unsafe munmap(start_address, Int(count) * SharedRegion.pageSize) != 0 { throw LinkFailure(.current, "munmap") }
        return 0
    }
}
