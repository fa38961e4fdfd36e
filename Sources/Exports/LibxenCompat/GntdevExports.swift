// xengnttab_…, as xengnttab.h declares them.

import CLibxenCompat
import Glibc
import LinuxSystem
import Loopback
import XenTypes

@safe
private func open(_ handle: OpaquePointer?) throws(LinkFailure) -> GrantHandle { try usable(handle, GrantHandle.self) }

/// Maps, and says so where it fails.
///
/// SAFETY: an address is only handed out.
@safe
private func mapping(
    _ handle: OpaquePointer?, _ body: (GrantHandle) throws(LinkFailure) -> UInt
) -> UnsafeMutableRawPointer? {
    guard let address = speaking(handle, GrantHandle.self, "mapping grants", body) else { return nil }
    return unsafe UnsafeMutableRawPointer(bitPattern: address)
}

/// A list of numbers that a caller gives.
///
/// SAFETY: `count` numbers of the caller's own, as it says beside the pointer; they are copied.
@safe
private func references(_ first: UnsafeMutablePointer<UInt32>?, _ count: UInt32) throws(LinkFailure) -> [GrantReference] {
    guard let first = unsafe first, count > 0, count <= UInt32(GrantHandle.mostPages) else {
        throw LinkFailure(.invalidArgument, "\(count) grants at once")
    }
    return unsafe UnsafeBufferPointer(start: first, count: Int(count)).map { GrantReference($0) }
}

/// A number that may be no domain's; then it is one that there never is.
private func domain(_ number: UInt32) -> DomainID { DomainID(UInt16(exactly: number) ?? DomainID.myself.rawValue) }

/// See xengnttab.h.
@c @implementation
public func xengnttab_open(_ logger: UnsafeMutablePointer<xentoollog_logger>?, _ open_flags: UInt32) -> OpaquePointer? {
    opening(logger, "xengnttab") { (parts) throws(LinkFailure) in try GrantHandle(opening: parts) }
}

/// See xengnttab.h.
@c @implementation
public func xengnttab_close(_ xgt: OpaquePointer?) -> Int32 { closing(xgt, GrantHandle.self) }

/// See xengnttab.h.
@c @implementation
public func xengnttab_fd(_ xgt: OpaquePointer?) -> Int32 {
    answering { () throws(LinkFailure) in try open(xgt).descriptor }
}

/// See xengnttab.h.
@c @implementation
public func xengnttab_set_max_grants(_ xgt: OpaquePointer?, _ nr_grants: UInt32) -> Int32 { 0 }

/// See xengnttab.h.
@c @implementation
public func xengnttab_map_grant_ref(
    _ xgt: OpaquePointer?, _ domid: UInt32, _ ref: UInt32, _ prot: Int32
) -> UnsafeMutableRawPointer? {
    mapping(xgt) { (handle) throws(LinkFailure) in
        try handle.map([(domain(domid), [GrantReference(ref)])], protection: prot)
    }
}

/// See xengnttab.h.
@c @implementation
public func xengnttab_map_grant_refs(
    _ xgt: OpaquePointer?, _ count: UInt32, _ domids: UnsafeMutablePointer<UInt32>?, _ refs: UnsafeMutablePointer<UInt32>?,
    _ prot: Int32
) -> UnsafeMutableRawPointer? {
    mapping(xgt) { (handle) throws(LinkFailure) in
        var groups: [(domain: DomainID, references: [GrantReference])] = []
        // Two lists of one length; the first is of numbers, too.
        for (owner, reference) in zip(try references(domids, count), try references(refs, count)) {
            let owner = domain(owner.rawValue)
            if groups.last?.domain == owner {
                groups[groups.count - 1].references.append(reference)
            } else {
                groups.append((owner, [reference]))
            }
        }
        return try handle.map(groups, protection: prot)
    }
}

/// See xengnttab.h.
@c @implementation
public func xengnttab_map_domain_grant_refs(
    _ xgt: OpaquePointer?, _ count: UInt32, _ domid: UInt32, _ refs: UnsafeMutablePointer<UInt32>?, _ prot: Int32
) -> UnsafeMutableRawPointer? {
    mapping(xgt) { (handle) throws(LinkFailure) in
        try handle.map([(domain(domid), try references(refs, count))], protection: prot)
    }
}

/// See xengnttab.h.
@c @implementation
public func xengnttab_map_grant_ref_notify(
    _ xgt: OpaquePointer?, _ domid: UInt32, _ ref: UInt32, _ prot: Int32, _ notify_offset: UInt32,
    _ notify_port: evtchn_port_t
) -> UnsafeMutableRawPointer? {
    mapping(xgt) { (handle) throws(LinkFailure) in
        try handle.map(
            [(domain(domid), [GrantReference(ref)])], protection: prot, notice: endNotice(notify_offset, notify_port))
    }
}

/// An offset within the page asks for a byte, any port but −1 for an event; nil: neither.
func endNotice(_ offset: UInt32, _ port: evtchn_port_t) -> GrantHandle.Notice? {
    let byte = offset < 4096 ? UInt16(offset) : nil
    let port = port == .max ? nil : EventPort(port)
    return byte == nil && port == nil ? nil : GrantHandle.Notice(byte: byte, port: port)
}

/// See xengnttab.h.
@c @implementation
public func xengnttab_unmap(_ xgt: OpaquePointer?, _ start_address: UnsafeMutableRawPointer?, _ count: UInt32) -> Int32 {
    answering { () throws(LinkFailure) in
        try open(xgt).unmap(UInt(bitPattern: start_address), count: Int(count))
        return 0
    }
}

/// See xengnttab.h.
@c @implementation
public func xengnttab_grant_copy(
    _ xgt: OpaquePointer?, _ count: UInt32, _ segs: UnsafeMutablePointer<xengnttab_grant_copy_segment_t>?
) -> Int32 {
    answering { () throws(LinkFailure) in
        let handle = try open(xgt)
        try handle.checkRestriction()
        // How callers ask whether there is such a call.
        guard count > 0 else { return 0 }
        guard let segs = unsafe segs else { throw LinkFailure(.badAddress, "no segments") }
        // SAFETY: as many segments of the caller's own as it says beside the pointer.
        try unsafe GrantCopyCall(UnsafeMutableBufferPointer(start: segs, count: Int(count))).run(handle.link)
        return 0
    }
}

/// What a kernel without dma-buf support answers.
private func noDMABuffers() -> Int32 {
    errno = ENOTTY
    return -1
}

/// See xengnttab.h.
@c @implementation
public func xengnttab_dmabuf_exp_from_refs(
    _ xgt: OpaquePointer?, _ domid: UInt32, _ flags: UInt32, _ count: UInt32, _ refs: UnsafePointer<UInt32>?,
    _ fd: UnsafeMutablePointer<UInt32>?
) -> Int32 { noDMABuffers() }

/// See xengnttab.h.
@c @implementation
public func xengnttab_dmabuf_exp_wait_released(_ xgt: OpaquePointer?, _ fd: UInt32, _ wait_to_ms: UInt32) -> Int32 {
    noDMABuffers()
}

/// See xengnttab.h.
@c @implementation
public func xengnttab_dmabuf_imp_to_refs(
    _ xgt: OpaquePointer?, _ domid: UInt32, _ fd: UInt32, _ count: UInt32, _ refs: UnsafeMutablePointer<UInt32>?
) -> Int32 { noDMABuffers() }

/// See xengnttab.h.
@c @implementation
public func xengnttab_dmabuf_imp_release(_ xgt: OpaquePointer?, _ fd: UInt32) -> Int32 { noDMABuffers() }
