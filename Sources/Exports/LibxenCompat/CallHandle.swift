// libxencall: hypercalls, and memory for them, as xencall.h declares its functions.

import CLibxenCompat
import Glibc
import LinuxSystem
import Loopback
import SharedMemory
import Synchronization

/// An open `xencall_handle`.
final class CallHandle: OpenHandle, @unchecked Sendable {
    private let event: Descriptor
    /// What was mapped for devices by this handle; what is left when it is closed is given back with the process.
    let pins = Mutex<[UInt32: LinkedPage]>([:])

    init(opening parts: Parts) throws(LinkFailure) {
        event = try idleDescriptor()
        super.init(parts)
    }

    var descriptor: Int32 { event.rawValue }
    override var descriptors: [Int32] { [event.rawValue] }
}

/// Makes a hypercall. What fails is the caller's to say: half of what libxl asks for is a question whether there is
/// such a call.
@safe
private func call(_ handle: OpaquePointer?, _ operation: UInt32, _ arguments: UInt64...) -> Int {
    answering { () throws(LinkFailure) in
        let handle = try usable(handle, CallHandle.self)
        if handle.restrictedTo != nil { throw LinkFailure(Errno(ENOTTY), "the handle was restricted") }
        let given = arguments + Array(repeating: 0, count: 5 - arguments.count)
        if operation == UInt32(__HYPERVISOR_grant_table_op) { return try DeviceGrantCall(handle: handle).make(given) }
        return try Hypercall(link: handle.link).make(operation, given)
    }
}

/// See xencall.h.
@c @implementation
public func xencall_open(_ logger: UnsafeMutablePointer<xentoollog_logger>?, _ open_flags: UInt32) -> OpaquePointer? {
    opening(logger, "xencall") { (parts) throws(LinkFailure) in try CallHandle(opening: parts) }
}

/// See xencall.h.
@c @implementation
public func xencall_close(_ xcall: OpaquePointer?) -> Int32 { closing(xcall, CallHandle.self) }

/// See xencall.h.
@c @implementation
public func xencall_fd(_ xcall: OpaquePointer?) -> Int32 {
    answering { () throws(LinkFailure) in try usable(xcall, CallHandle.self).descriptor }
}

/// See xencall.h.
@c @implementation
public func xencall0(_ xcall: OpaquePointer?, _ op: UInt32) -> Int32 { Int32(clamping: call(xcall, op)) }

/// See xencall.h.
@c @implementation
public func xencall1(_ xcall: OpaquePointer?, _ op: UInt32, _ arg1: UInt64) -> Int32 {
    Int32(clamping: call(xcall, op, arg1))
}

/// See xencall.h.
@c @implementation
public func xencall2(_ xcall: OpaquePointer?, _ op: UInt32, _ arg1: UInt64, _ arg2: UInt64) -> Int32 {
    Int32(clamping: call(xcall, op, arg1, arg2))
}

/// See xencall.h.
@c @implementation
public func xencall3(_ xcall: OpaquePointer?, _ op: UInt32, _ arg1: UInt64, _ arg2: UInt64, _ arg3: UInt64) -> Int32 {
    Int32(clamping: call(xcall, op, arg1, arg2, arg3))
}

/// See xencall.h.
@c @implementation
public func xencall4(
    _ xcall: OpaquePointer?, _ op: UInt32, _ arg1: UInt64, _ arg2: UInt64, _ arg3: UInt64, _ arg4: UInt64
) -> Int32 { Int32(clamping: call(xcall, op, arg1, arg2, arg3, arg4)) }

/// See xencall.h.
@c @implementation
public func xencall5(
    _ xcall: OpaquePointer?, _ op: UInt32, _ arg1: UInt64, _ arg2: UInt64, _ arg3: UInt64, _ arg4: UInt64, _ arg5: UInt64
) -> Int32 { Int32(clamping: call(xcall, op, arg1, arg2, arg3, arg4, arg5)) }

/// See xencall.h.
@c @implementation
public func xencall2L(_ xcall: OpaquePointer?, _ op: UInt32, _ arg1: UInt64, _ arg2: UInt64) -> Int {
    call(xcall, op, arg1, arg2)
}

/// See xencall.h.
@c @implementation
public func xencall_alloc_buffer_pages(_ xcall: OpaquePointer?, _ nr_pages: Int) -> UnsafeMutableRawPointer? {
    guard nr_pages > 0, nr_pages <= 1 << 20 else {
        errno = nr_pages == 0 ? EINVAL : ENOMEM
        return nil
    }
    // SAFETY: memory of the kernel's choice, which becomes the caller's.
    let memory = unsafe mmap(nil, nr_pages * SharedRegion.pageSize, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)
    return unsafe memory == MAP_FAILED ? nil : memory
}

/// See xencall.h.
@c @implementation
public func xencall_free_buffer_pages(_ xcall: OpaquePointer?, _ p: UnsafeMutableRawPointer?, _ nr_pages: Int) {
    guard unsafe p != nil, nr_pages > 0, nr_pages <= 1 << 20 else { return }
    // SAFETY: what `xencall_alloc_buffer_pages` gave out, which the caller gives up.
    _ = unsafe munmap(p, nr_pages * SharedRegion.pageSize)
}

/// See xencall.h.
@c @implementation
public func xencall_alloc_buffer(_ xcall: OpaquePointer?, _ size: Int) -> UnsafeMutableRawPointer? {
    // SAFETY: zeroed memory that becomes the caller's.
    unsafe calloc(1, max(size, 1))
}

/// See xencall.h.
@c @implementation
public func xencall_free_buffer(_ xcall: OpaquePointer?, _ p: UnsafeMutableRawPointer?) {
    // SAFETY: what `xencall_alloc_buffer` gave out, or NULL.
    unsafe free(p)
}

/// See xencall.h: what a call is given is this process's own memory.
@c @implementation
public func xencall_buffers_never_fault(_ xcall: OpaquePointer?) -> Int32 { 1 }
