// Where a vector leads.

import Hypervisor
import LinuxSystem

/// Somebody who takes messages: another table, or a hypervisor that puts them to a guest's processor. Called on the
/// thread that interrupts; never blocks.
public protocol InterruptMessagePort: AnyObject, Sendable {
    func send(_ message: InterruptMessage)
}

/// Where a vector leads.
public enum InterruptTarget: Sendable {
    /// Nowhere: it counts, and whoever is interested asks (`take`).
    case none
    /// An event channel whose other end is this side's own: rung when there is something to take, and whoever listens
    /// takes it (`InterruptVectors.take`).
    case eventChannel(any EventChannel)
    /// An event channel to somebody who knows of no table: another domain. Nobody there takes the count, so the
    /// delivery does, and every interrupt that is not told with one before it rings.
    case peer(any EventChannel)
    /// An eventfd: the count itself is moved there, so a reader that knows nothing of tables gets every interrupt. For
    /// a reader who is trusted, and not blocking: an eventfd goes both ways.
    case eventDescriptor(Descriptor)
    /// Another message, sent on when there is something to take.
    case message(InterruptMessage, to: any InterruptMessagePort)
}
