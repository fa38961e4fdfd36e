// xenevtchn_…, as xenevtchn.h declares them.

import CLibxenCompat
import Glibc
import LinuxSystem
import Loopback
import XenTypes

@safe
private func open(_ handle: OpaquePointer?) throws(LinkFailure) -> EventHandle { try usable(handle, EventHandle.self) }

/// See xenevtchn.h.
@c @implementation
public func xenevtchn_open(_ logger: UnsafeMutablePointer<xentoollog_logger>?, _ flags: UInt32) -> OpaquePointer? {
    opening(logger, "xenevtchn") { (parts) throws(LinkFailure) in try EventHandle(parts, flags: flags) }
}

/// See xenevtchn.h. A descriptor alone, of a process that was before this one, leads nowhere here.
@c @implementation
public func xenevtchn_fdopen(
    _ logger: UnsafeMutablePointer<xentoollog_logger>?, _ fd: Int32, _ open_flags: UInt32
) -> OpaquePointer? {
    errno = EINVAL
    return nil
}

/// See xenevtchn.h.
@c @implementation
public func xenevtchn_close(_ xce: OpaquePointer?) -> Int32 { closing(xce, EventHandle.self) }

/// See xenevtchn.h.
@c @implementation
public func xenevtchn_fd(_ xce: OpaquePointer?) -> Int32 {
    answering { () throws(LinkFailure) in try open(xce).descriptor }
}

/// See xenevtchn.h.
@c @implementation
public func xenevtchn_notify(_ xce: OpaquePointer?, _ port: evtchn_port_t) -> Int32 {
    answering { () throws(LinkFailure) in
        try open(xce).notify(port)
        return 0
    }
}

/// See xenevtchn.h.
@c @implementation
public func xenevtchn_bind_unbound_port(_ xce: OpaquePointer?, _ domid: UInt32) -> xenevtchn_port_or_error_t {
    speaking(xce, EventHandle.self, "a port for domain \(domid)") { (handle) throws(LinkFailure) in
        try handle.bindUnbound(domid)
    } ?? -1
}

/// See xenevtchn.h.
@c @implementation
public func xenevtchn_bind_interdomain(
    _ xce: OpaquePointer?, _ domid: UInt32, _ remote_port: evtchn_port_t
) -> xenevtchn_port_or_error_t {
    speaking(xce, EventHandle.self, "binding to domain \(domid)") { (handle) throws(LinkFailure) in
        try handle.bindInterdomain(domid, remote_port)
    } ?? -1
}

/// See xenevtchn.h.
@c @implementation
public func xenevtchn_bind_virq(_ xce: OpaquePointer?, _ virq: UInt32) -> xenevtchn_port_or_error_t {
    speaking(xce, EventHandle.self, "binding") { (handle) throws(LinkFailure) in try handle.bindVirtual(virq) } ?? -1
}

/// See xenevtchn.h.
@c @implementation
public func xenevtchn_unbind(_ xce: OpaquePointer?, _ port: evtchn_port_t) -> Int32 {
    answering { () throws(LinkFailure) in
        try open(xce).unbind(port)
        return 0
    }
}

/// See xenevtchn.h.
@c @implementation
public func xenevtchn_pending(_ xce: OpaquePointer?) -> xenevtchn_port_or_error_t {
    answering { () throws(LinkFailure) in try open(xce).pending() }
}

/// See xenevtchn.h.
@c @implementation
public func xenevtchn_unmask(_ xce: OpaquePointer?, _ port: evtchn_port_t) -> Int32 {
    answering { () throws(LinkFailure) in
        try open(xce).unmask(port)
        return 0
    }
}

/// See xenevtchn.h.
@c @implementation
public func xenevtchn_restrict(_ xce: OpaquePointer?, _ domid: domid_t) -> Int32 {
    answering { () throws(LinkFailure) in
        try open(xce).restrictOnce(to: domid)
        return 0
    }
}
