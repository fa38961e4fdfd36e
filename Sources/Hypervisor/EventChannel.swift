// An interdomain event channel's end: a doorbell that carries no data.

import LinuxSystem
import XenWire

/// One end of an interdomain event channel. Closed when released or when `close` is called.
///
/// The receiving order is always: wait until `descriptor` is readable, `acknowledge`, do the work, `unmask`. Between the first and
/// the last the port is masked, so that a peer that rings without work cannot keep this side busy (XSA-391).
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
    /// Gives the port back.
    func close()
}
