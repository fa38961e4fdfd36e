// One connection to an NBD server, through libnbd. Connecting may block and happens on control or helper threads; afterwards the reactor's
// thread drives it.

import CNBD
import Glibc
import LinuxSystem

/// A connected libnbd handle; closed when the last reference goes. libnbd locks it, so it may pass between threads.
@safe
final class NBDHandle: @unchecked Sendable {
    let raw: OpaquePointer
    /// A second descriptor for the connection's socket, which waits may hold on to.
    let socket: Descriptor

    private init(_ raw: OpaquePointer, _ socket: Descriptor) {
        unsafe self.raw = raw
        self.socket = socket
    }

    deinit { unsafe nbd_close(raw) }

    /// Connects to `uri` and negotiates, within `milliseconds` in all.
    static func connect(_ uri: String, milliseconds: Int32) throws(DeviceError) -> NBDHandle {
        guard let raw = unsafe nbd_create() else { throw .nbd(uri: uri, reason: lastError()) }
        // A URI may name a TLS key file: it comes from whoever configures the disk, not from a guest.
        _ = unsafe nbd_set_uri_allow_local_file(raw, true)
        // Reads fill our buffer or fail; zeroing it first would cost a pass over the memory.
        _ = unsafe nbd_set_pread_initialize(raw, false)
        do throws(DeviceError) {
            if unsafe nbd_aio_connect_uri(raw, uri) == -1 { throw .nbd(uri: uri, reason: lastError()) }
            let limit = now() + Int64(milliseconds)
            while unsafe nbd_aio_is_ready(raw) != 1 {
                if unsafe nbd_aio_is_dead(raw) == 1 || nbd_aio_is_closed(raw) == 1 { throw .nbd(uri: uri, reason: lastError()) }
                let left = limit - now()
                if left <= 0 { throw .nbd(uri: uri, reason: "no connection within \(milliseconds) ms") }
                if unsafe nbd_poll(raw, Int32(clamping: left)) == -1 { throw .nbd(uri: uri, reason: lastError()) }
            }
            let copy = unsafe fcntl(nbd_aio_get_fd(raw), F_DUPFD_CLOEXEC, 0)
            if copy < 0 { throw .nbd(uri: uri, reason: Errno.current.description) }
            return unsafe NBDHandle(raw, Descriptor(owning: copy))
        } catch {
            unsafe nbd_close(raw)
            throw error
        }
    }

    /// What the server says of its export.
    func geometry(uri: String, readOnly: Bool) throws(DeviceError) -> BlockGeometry {
        let size = unsafe nbd_get_size(raw)
        if size < 0 { throw .nbd(uri: uri, reason: Self.lastError()) }
        let least = UInt64(clamping: unsafe nbd_get_block_size(raw, LIBNBD_SIZE_MINIMUM))
        if least > 4096 { throw .nbd(uri: uri, reason: "the server needs blocks of \(least) bytes; at most 4096 are possible") }
        let sector = UInt32(max(least, 512))
        let preferred = unsafe UInt32(clamping: nbd_get_block_size(raw, LIBNBD_SIZE_PREFERRED))
        let isReadOnly = unsafe readOnly || nbd_is_read_only(raw) == 1
        var geometry = BlockGeometry(
            byteCount: UInt64(size) / UInt64(sector) * UInt64(sector), logicalSectorSize: sector,
            physicalSectorSize: min(max(preferred, sector), 1 << 16), isReadOnly: isReadOnly,
            canFlush: unsafe !isReadOnly && nbd_can_flush(raw) == 1)
        if unsafe !isReadOnly && nbd_can_trim(raw) == 1 {
            geometry.discard = DiscardLimits(granularity: geometry.physicalSectorSize)
        }
        if geometry.byteCount == 0 { throw .empty(name: uri, byteCount: UInt64(size)) }
        return geometry
    }

    /// Most bytes of one read or write; libnbd's own limit is 64 MiB, and a server may say less.
    var largestTransfer: UInt64 {
        let most = unsafe nbd_get_block_size(raw, LIBNBD_SIZE_MAXIMUM)
        return most > 0 ? min(UInt64(most) & ~4095, 1 << 25) : 1 << 25
    }

    /// Whether a flush on one connection covers the writes of all.
    var canMultiConnect: Bool { unsafe nbd_can_multi_conn(raw) == 1 }

    /// Whether the connection has ended.
    var isDead: Bool { unsafe nbd_aio_is_dead(raw) == 1 || nbd_aio_is_closed(raw) == 1 }

    /// The calling thread's last error in libnbd, in words.
    static func lastError() -> String {
        guard let text = unsafe nbd_get_error() else { return "unknown error" }
        return unsafe String(cString: text)
    }

    private static func now() -> Int64 {
        var time = timespec()
        _ = unsafe clock_gettime(CLOCK_MONOTONIC, &time)
        return Int64(time.tv_sec) * 1000 + Int64(time.tv_nsec) / 1_000_000
    }
}
