// An interdomain event channel's end: a doorbell that carries no data.

import LinuxSystem
import XenTypes

/// One end of an interdomain event channel. Closed when released or when `close` is called.
///
/// The receiving order is always: wait until `descriptor` is readable, `acknowledge`, do the work, `unmask`. Between
/// the first and the last the port is masked, so that a peer that rings without work cannot keep this side busy
/// (attacks.md C5).
public protocol EventChannel: AnyObject, Sendable {
    /// This side's port.
    var port: EventPort { get }
    /// Becomes readable when the peer has notified. Only waited on; never read except by `acknowledge`.
    var descriptor: Descriptor { get }
    /// Takes what is pending; true if there was anything.
    @discardableResult func acknowledge() -> Bool
    /// Lets the port signal again (end of interrupt).
    func unmask()
    /// Rings the peer. Never blocks; a doorbell already rung stays rung.
    func notify()
    /// Calls `body`, once and on any thread, when the peer's end is closed, by the peer or by its death; at once if it
    /// is closed already. A hypervisor that cannot tell never calls it.
    func whenPeerCloses(_ body: @escaping @Sendable () -> Void)
    /// Gives the port back.
    func close()
}

extension EventChannel {
    /// Xen tells nobody: where a domain dies its toolstack says so, and a process of a domain has no name there.
    public func whenPeerCloses(_ body: @escaping @Sendable () -> Void) {}
}
