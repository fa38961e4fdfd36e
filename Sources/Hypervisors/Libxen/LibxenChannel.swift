// Event channels through libxenevtchn: one handle for each, so that each has a descriptor of its own to wait on.

import CXen
import Glibc
import Hypervisor
import LinuxSystem
import Synchronization
import XenTypes

extension LibxenHypervisor {
    /// An unbound port for `remote` (libxenevtchn).
    public func allocateChannel(for remote: DomainID) throws(HypervisorError) -> any EventChannel {
        // SAFETY: the handle is open, and lent for the call.
        try unsafe LibxenChannel(remote, EventPort(0)) { handle in
            unsafe xenevtchn_bind_unbound_port(handle, UInt32(remote.rawValue))
        }
    }

    /// Binds to a port that `remote` allocated for this domain (libxenevtchn).
    public func bindChannel(remote: DomainID, port: EventPort) throws(HypervisorError) -> any EventChannel {
        // SAFETY: the handle is open, and lent for the call.
        try unsafe LibxenChannel(remote, port) { handle in
            unsafe xenevtchn_bind_interdomain(handle, UInt32(remote.rawValue), port.rawValue)
        }
    }
}

/// One end of a channel. The kernel masks the port when it hands out an event, and unmasks it when the port is written
/// back.
///
/// SAFETY: the handle is used with the lock held only, and out of its place before it is closed; so no call has one
/// that is closed.
@safe final class LibxenChannel: EventChannel, @unchecked Sendable {
    let port: EventPort
    let descriptor: Descriptor
    /// Nil once closed.
    private let handle: Mutex<Handle?>

    /// A pointer that may go from thread to thread: the library keeps nothing of a thread's.
    @safe private struct Handle: @unchecked Sendable {
        let pointer: OpaquePointer
    }

    fileprivate init(
        _ remote: DomainID, _ remotePort: EventPort, bind: (OpaquePointer) -> xenevtchn_port_or_error_t
    ) throws(HypervisorError) {
        // SAFETY: the handle is this call's own until it is in its place, and closed on every way out but that.
        guard let handle = unsafe xenevtchn_open(nil, 0) else {
            throw .system("\(Errno.current)", doing: "opening /dev/xen/evtchn")
        }
        do throws(Errno) {
            // The library closes its own; ours is what the reactor waits on, for as long as it likes.
            let raw = try retryingInterrupts { unsafe fcntl(xenevtchn_fd(handle), F_DUPFD_CLOEXEC, 0) }
            descriptor = Descriptor(owning: raw)
            // Both share the open file: `acknowledge` must not wait for an event that another call took.
            try descriptor.setNonBlocking(true)
        } catch {
            _ = unsafe xenevtchn_close(handle)
            throw .system("\(error)", doing: "preparing an event channel")
        }
        let bound = unsafe bind(handle)
        guard bound > 0 else {
            let error = Errno.current
            _ = unsafe xenevtchn_close(handle)
            throw .portRefused(remotePort, of: remote, reason: "\(error)")
        }
        port = EventPort(UInt32(bound))
        self.handle = Mutex(unsafe Handle(pointer: handle))
    }

    /// Throws unless there are event channels.
    static func probe() throws(HypervisorError) {
        // What goes wrong is our caller's to say. SAFETY: logger and handle are this call's own, and the handle goes
        // first.
        let logger = unsafe causeway_quiet_logger()
        defer { unsafe xtl_logger_destroy(logger) }
        guard let handle = unsafe xenevtchn_open(logger, 0) else {
            throw .system("\(Errno.current)", doing: "opening /dev/xen/evtchn")
        }
        _ = unsafe xenevtchn_close(handle)
    }

    deinit { close() }

    @discardableResult func acknowledge() -> Bool {
        handle.withLock { handle in
            guard let handle else { return false }
            return unsafe xenevtchn_pending(handle.pointer) >= 0
        }
    }

    func unmask() {
        handle.withLock { handle in
            if let handle { _ = unsafe xenevtchn_unmask(handle.pointer, port.rawValue) }
        }
    }

    func notify() {
        handle.withLock { handle in
            if let handle { _ = unsafe xenevtchn_notify(handle.pointer, port.rawValue) }
        }
    }

    func close() {
        handle.withLock { handle in
            guard let open = handle.take() else { return }
            // Unbound by name: the descriptor that we handed out may keep the open file for longer.
            _ = unsafe xenevtchn_unbind(open.pointer, port.rawValue)
            _ = unsafe xenevtchn_close(open.pointer)
        }
    }
}
