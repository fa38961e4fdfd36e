// One connection to an NBD server, through libnbd. Connecting may block and happens on control or helper threads;
// afterwards the reactor's thread drives it.

import CNBD
import Glibc
import LinuxSystem

/// What libnbd or the server says against it, in words.
package struct NBDError: Error, Equatable, Sendable, CustomStringConvertible {
    /// One line.
    package let reason: String
    /// Whether trying again may help: nobody listens there, or whoever does went away. What was said against us by a
    /// server that is there stays said.
    package let mayPass: Bool

    package init(reason: String, mayPass: Bool = false) {
        self.reason = reason
        self.mayPass = mayPass
    }

    /// The same.
    package var description: String { reason }
}

/// A connected libnbd handle; closed when the last reference goes.
///
/// SAFETY: `raw` is a handle that `nbd_create` made, closed once: by `connect` if that fails, else by `deinit`. libnbd
/// locks it, so that it may pass between threads, and copies the texts that it is given.
@safe
package final class NBDConnection: @unchecked Sendable {
    let raw: OpaquePointer
    /// A second descriptor for the connection's socket, which waits may hold on to.
    package let socket: Descriptor

    private init(_ raw: OpaquePointer, _ socket: Descriptor) {
        unsafe self.raw = raw
        self.socket = socket
    }

    deinit { unsafe nbd_close(raw) }

    /// Connects to `uri` and negotiates, within `milliseconds` in all.
    /// - Parameter isWanted: asked a few times a second; once it is not, the attempt ends.
    package static func connect(
        _ uri: String, milliseconds: Int32, _ time: any TimeSource, isWanted: () -> Bool = { true }
    ) throws(NBDError) -> NBDConnection {
        guard let raw = unsafe nbd_create() else { throw lastError() }
        // A URI may name a TLS key file: it comes from whoever configures the disk, not from a guest.
        _ = unsafe nbd_set_uri_allow_local_file(raw, true)
        // Reads fill our buffer or fail; zeroing it first would cost a pass over the memory.
        _ = unsafe nbd_set_pread_initialize(raw, false)
        do throws(NBDError) {
            if unsafe nbd_aio_connect_uri(raw, uri) == -1 { throw lastError() }
            let limit = time.milliseconds + Int64(milliseconds)
            while unsafe nbd_aio_is_ready(raw) != 1 {
                if unsafe nbd_aio_is_dead(raw) == 1 { throw lastError() }
                if unsafe nbd_aio_is_closed(raw) == 1 { throw NBDError(reason: closedReason, mayPass: true) }
                let left = limit - time.milliseconds
                if left <= 0 || !isWanted() { throw NBDError(reason: "no connection within \(milliseconds) ms", mayPass: true) }
                if unsafe nbd_poll(raw, Int32(clamping: min(left, 100))) == -1 { throw lastError() }
            }
            let copy = unsafe fcntl(nbd_aio_get_fd(raw), F_DUPFD_CLOEXEC, 0)
            if copy < 0 { throw NBDError(reason: Errno.current.description) }
            let socket = Descriptor(owning: copy)
            socket.probesPeer()
            return unsafe NBDConnection(raw, socket)
        } catch {
            unsafe nbd_close(raw)
            throw error
        }
    }

    private static let closedReason = "the server closed the connection"

    /// The calling thread's last error in libnbd.
    private static func lastError() -> NBDError {
        // SAFETY: the text is copied before this thread's next call may change it.
        guard let raw = unsafe nbd_get_error() else { return NBDError(reason: "unknown error") }
        let text = unsafe String(cString: raw)
        // A server that hangs up while it is greeted is away without an error number.
        let isAway = Errno(nbd_get_errno()).isOfAPeerThatIsAway || text.hasSuffix("server disconnected unexpectedly")
        // It begins with the function's name, which tells a user nothing.
        let words = text.hasPrefix("nbd_") ? String(text[(text.firstIndex(of: " ") ?? text.startIndex)...].dropFirst()) : text
        return NBDError(reason: words, mayPass: isAway)
    }

    // MARK: What the server says of its export

    /// Bytes.
    package func byteCount() throws(NBDError) -> UInt64 {
        let size = unsafe nbd_get_size(raw)
        if size < 0 { throw Self.lastError() }
        return UInt64(size)
    }

    /// Blocks that it can be used in, bytes; 0: it does not say.
    package enum BlockSize { case minimum, preferred, maximum }

    /// One of them; 0 if the server does not say.
    package func blockSize(_ which: BlockSize) -> UInt64 {
        let kind =
            switch which {
            case .minimum: LIBNBD_SIZE_MINIMUM
            case .preferred: LIBNBD_SIZE_PREFERRED
            case .maximum: LIBNBD_SIZE_MAXIMUM
            }
        return UInt64(clamping: unsafe nbd_get_block_size(raw, kind))
    }

    /// Whether it can only be read.
    package var isReadOnly: Bool { unsafe nbd_is_read_only(raw) == 1 }
    /// Whether it has a command to flush.
    package var canFlush: Bool { unsafe nbd_can_flush(raw) == 1 }
    /// Whether a write can be durable by itself (FUA).
    package var canWriteDurably: Bool { unsafe nbd_can_fua(raw) == 1 }
    /// Whether it has a command to discard.
    package var canTrim: Bool { unsafe nbd_can_trim(raw) == 1 }
    /// Whether it has a command to make a range zero.
    package var canZero: Bool { unsafe nbd_can_zero(raw) == 1 }
    /// Whether a flush on one connection covers the writes of all.
    package var canMultiConnect: Bool { unsafe nbd_can_multi_conn(raw) == 1 }

    // MARK: Driving it

    /// Why it ended, after `notifyRead` has said that it failed, on the same thread.
    package var reasonOfEnd: String { unsafe nbd_aio_is_closed(raw) == 1 ? Self.closedReason : Self.lastError().reason }

    /// Whether the connection has ended.
    package var isDead: Bool { unsafe nbd_aio_is_dead(raw) == 1 || nbd_aio_is_closed(raw) == 1 }

    /// What the connection waits for.
    package struct Direction {
        fileprivate let bits: UInt32
        /// That its socket can be read.
        package var reads: Bool { bits & UInt32(LIBNBD_AIO_DIRECTION_READ) != 0 }
        /// That its socket can be written.
        package var writes: Bool { bits & UInt32(LIBNBD_AIO_DIRECTION_WRITE) != 0 }
    }

    /// What it is waiting for.
    package var direction: Direction { Direction(bits: unsafe nbd_aio_get_direction(raw)) }

    /// The socket can be read: goes on with a reply. False if that failed.
    package func notifyRead() -> Bool { unsafe nbd_aio_notify_read(raw) != -1 }

    /// The socket can be written: goes on with a command.
    package func notifyWrite() { _ = unsafe nbd_aio_notify_write(raw) }
}

extension Errno {
    /// Whether it says that there is no peer, or not any more.
    package var isOfAPeerThatIsAway: Bool {
        switch rawValue {
        case ENOENT, ECONNREFUSED, EAGAIN: true
        case ENOTCONN, ESHUTDOWN, ECONNRESET, ECONNABORTED, EPIPE: true
        case ETIMEDOUT, EHOSTUNREACH, EHOSTDOWN, ENETUNREACH, ENETDOWN: true
        default: false
        }
    }
}

extension Descriptor {
    /// Lets TCP ask a peer that has been silent for ten seconds whether it is there: one whose machine is gone would
    /// never be missed. Other sockets know at once.
    fileprivate func probesPeer() {
        for (level, option, value) in [
            (SOL_SOCKET, SO_KEEPALIVE, 1), (Int32(IPPROTO_TCP), TCP_KEEPIDLE, 10), (Int32(IPPROTO_TCP), TCP_KEEPINTVL, 5),
            (Int32(IPPROTO_TCP), TCP_KEEPCNT, 4), (Int32(IPPROTO_TCP), TCP_USER_TIMEOUT, 30_000),
        ] as [(Int32, Int32, Int32)] {
            var value = value
            // SAFETY: the kernel reads the one number; sockets that are not TCP's refuse.
            _ = unsafe setsockopt(rawValue, level, option, &value, socklen_t(MemoryLayout<Int32>.size))
        }
    }
}
