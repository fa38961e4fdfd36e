// libxenevtchn: ports of one handle, one descriptor to wait on (/dev/xen/evtchn).
//
// The descriptor is an epoll instance with every port's bell in it, one-shot: what was told of is told of again only
// after it was asked for anew. So "delivered" is "masked", and `unmask` is the asking. It can be polled, duplicated and
// put into another epoll; only read(2) on it fails, which no program of the library's does.

import CLibxenCompat
import Glibc
import HypervisorRules
import LinuxSystem
import Loopback
import Synchronization
import XenTypes

/// An open `xenevtchn_handle`.
final class EventHandle: OpenHandle, @unchecked Sendable {
    private let epoll: Descriptor
    private let ports = Mutex<[UInt32: LinkedPort]>([:])

    /// Ports that a domain of Xen's may have; a number from here on is nobody's (`EVTCHN_FIFO_NR_CHANNELS`).
    static let mostPorts: UInt32 = 1 << 17
    /// The flags that there are (`XENEVTCHN_NO_CLOEXEC`).
    static let noCloseOnExec: UInt32 = 1

    init(_ parts: Parts, flags: UInt32) throws(LinkFailure) {
        guard flags & ~Self.noCloseOnExec == 0 else { throw LinkFailure(.invalidArgument, "flags \(flags)") }
        let raw = causeway_epoll_create(flags & Self.noCloseOnExec == 0 ? 1 : 0)
        guard raw >= 0 else { throw LinkFailure(.current, "a descriptor to wait on") }
        epoll = Descriptor(owning: raw)
        super.init(parts)
    }

    var descriptor: Int32 { epoll.rawValue }
    override var descriptors: [Int32] { [epoll.rawValue] }

    // MARK: Binding

    func bindUnbound(_ domain: UInt32) throws(LinkFailure) -> Int32 {
        let remote = try remote(domain)
        return try add(try link.allocatePort(for: remote))
    }

    func bindInterdomain(_ domain: UInt32, _ port: UInt32) throws(LinkFailure) -> Int32 {
        let remote = try remote(domain)
        return try add(try link.bindPort(remote: remote, port: EventPort(port)))
    }

    func bindVirtual(_ number: UInt32) throws(LinkFailure) -> Int32 {
        if restrictedTo != nil { throw LinkFailure(Errno(EACCES), "the handle was restricted") }
        return try add(try link.bindVirtual(VirtualInterrupt(number)))
    }

    private func remote(_ number: UInt32) throws(LinkFailure) -> DomainID {
        guard let short = UInt16(exactly: number) else { throw LinkFailure(.noSuchProcess, "domain \(number): no such domain") }
        if let only = restrictedTo, only.rawValue != short {
            throw LinkFailure(Errno(EACCES), "domain \(number): the handle was restricted to domain \(only)")
        }
        return DomainID(short)
    }

    private func add(_ port: LinkedPort) throws(LinkFailure) -> Int32 {
        // Known before it is waited for: it may be pending at once.
        ports.withLock { $0[port.number.rawValue] = port }
        guard causeway_epoll_add(epoll.rawValue, port.bell.rawValue, port.number.rawValue) == 0 else {
            let error = Errno.current
            _ = ports.withLock { $0.removeValue(forKey: port.number.rawValue) }
            link.close(port)
            throw LinkFailure(error, "waiting for port \(port.number): \(error)")
        }
        return Int32(truncatingIfNeeded: port.number.rawValue)
    }

    func unbind(_ number: UInt32) throws(LinkFailure) {
        guard number < Self.mostPorts else { throw LinkFailure(.invalidArgument, "there is no port \(number)") }
        guard let port = ports.withLock({ $0.removeValue(forKey: number) }) else { throw notConnected(number) }
        _ = causeway_epoll_remove(epoll.rawValue, port.bell.rawValue)
        link.close(port)
    }

    override func end() {
        let left = ports.withLock { ports in
            defer { ports = [:] }
            return Array(ports.values)
        }
        for port in left { link.close(port) }
    }

    private func notConnected(_ number: UInt32) -> LinkFailure {
        LinkFailure(Errno(ENOTCONN), "port \(number) is not this handle's")
    }

    // MARK: Events

    func notify(_ number: UInt32) throws(LinkFailure) {
        guard let port = ports.withLock({ $0[number] }) else { throw notConnected(number) }
        port.ring(hearing: link)
    }

    /// The next port that was rung, masked now; waits for one unless the descriptor was made not to.
    func pending() throws(LinkFailure) -> Int32 {
        while true {
            let waits = causeway_is_nonblocking(epoll.rawValue) == 0
            let number = causeway_epoll_next(epoll.rawValue, waits ? 1 : 0)
            guard number >= 0 else { throw LinkFailure(.current, "waiting for an event") }
            // One that was unbound meanwhile, or whose host has ended (a bell that hangs up is empty), is none.
            guard let port = ports.withLock({ $0[UInt32(truncatingIfNeeded: number)] }), drainPipe(port.bell) else { continue }
            return Int32(truncatingIfNeeded: number)
        }
    }

    /// Lets the port be told of again. One that is not masked, or not this handle's, is passed over, as the kernel
    /// does.
    func unmask(_ number: UInt32) {
        guard let port = ports.withLock({ $0[number] }) else { return }
        _ = causeway_epoll_again(epoll.rawValue, port.bell.rawValue, number)
    }

    // MARK: Restricting

    /// As the kernel's IOCTL_EVTCHN_RESTRICT_DOMID.
    func restrictOnce(to domain: UInt16) throws(LinkFailure) {
        guard restrictedTo == nil else { throw LinkFailure(Errno(EACCES), "the handle was restricted before") }
        guard domain != 0, DomainID(domain).isOrdinary else { throw LinkFailure(.invalidArgument, "domain \(domain)") }
        guard restrict(to: domain) else { throw LinkFailure(Errno(EACCES), "the handle was restricted before") }
    }

    override func restrictAll(to domain: UInt16) throws(LinkFailure) { try restrictOnce(to: domain) }
}
