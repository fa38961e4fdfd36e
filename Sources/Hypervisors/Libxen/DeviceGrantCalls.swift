// The two hypercalls that give a device a page and take it away: raw, for no library has them. Operations stand in
// memory that outlives this process, and Xen itself writes into it what it did.

import CXen
import Glibc
import Hypervisor
import LinuxSystem
import SharedMemory

/// What is asked of Xen; a test has one of its own.
protocol DeviceGrantCalls: AnyObject, Sendable {
    /// Has Xen carry out `count` operations of `GNTTABOP_map_grant_ref`, which stand in `region` from `offset` on and
    /// are answered there.
    func map(_ region: SharedRegion, at offset: Int, count: Int) throws(HypervisorError)
    /// The same of `GNTTABOP_unmap_grant_ref`.
    func unmap(_ region: SharedRegion, at offset: Int, count: Int) throws(HypervisorError)
}

/// A libxencall handle.
///
/// SAFETY: `handle` and `logger` are opened by `init` and closed by `deinit`. On Linux the library keeps nothing but
/// descriptors, and a hypercall is one ioctl; so calls from several threads may overlap.
@safe final class HypercallDevice: DeviceGrantCalls, @unchecked Sendable {
    private let handle: OpaquePointer
    private let logger: UnsafeMutablePointer<xentoollog_logger>?

    init() throws(HypervisorError) {
        // SAFETY: the logger is there before and until after the handle that is told of it, here, too.
        let logger = unsafe causeway_quiet_logger()
        guard let handle = unsafe xencall_open(logger, 0) else {
            let error = Errno.current
            unsafe xtl_logger_destroy(logger)
            throw .system("\(error)", doing: "opening /dev/xen/privcmd")
        }
        unsafe self.logger = logger
        unsafe self.handle = handle
    }

    deinit {
        _ = unsafe xencall_close(handle)
        unsafe xtl_logger_destroy(logger)
    }

    func map(_ region: SharedRegion, at offset: Int, count: Int) throws(HypervisorError) {
        try call(GNTTABOP_map_grant_ref, region, offset, count, MemoryLayout<gnttab_map_grant_ref>.stride, "mapping")
    }

    func unmap(_ region: SharedRegion, at offset: Int, count: Int) throws(HypervisorError) {
        try call(GNTTABOP_unmap_grant_ref, region, offset, count, MemoryLayout<gnttab_unmap_grant_ref>.stride, "unmapping")
    }

    private func call(
        _ command: Int32, _ region: SharedRegion, _ offset: Int, _ count: Int, _ stride: Int, _ what: String
    ) throws(HypervisorError) {
        precondition(offset >= 0 && count >= 0 && count * stride <= region.byteCount - offset, "operations outside their memory")
        // SAFETY: `count` operations of this command's kind are in the region, which the caller keeps for the call.
        let result = unsafe xencall3(
            handle, UInt32(__HYPERVISOR_grant_table_op), UInt64(command), region.address + UInt64(offset), UInt64(count))
        if result < 0 { throw .system("\(Errno.current)", doing: "\(what) \(count) grants for a device") }
    }
}
