// A ring's other row: what its driver signals by, and which client of a reactor is woken by that. It is changed while
// the ring runs, as the one that leads outwards is. What was signalled by the source before and not been seen is not
// lost with it, for whoever changes a row has its queue look at its ring.

import LinuxSystem
import Reactor

/// One ring's inbound row; of its queue, on its reactor's thread.
package struct InboundRow {
    /// What the driver signals by.
    package enum Source: Sendable {
        /// An eventfd, which the driver can read and fill, too.
        case descriptor(Descriptor)
        /// Messages: whoever gets them wakes the reactor.
        case messages
        /// Nothing: the ring is looked at every millisecond.
        case nothing

        /// As a front end has it.
        package init(_ descriptor: Descriptor?, isByMessages: Bool = false) {
            self = descriptor.map { .descriptor($0) } ?? (isByMessages ? .messages : .nothing)
        }
    }

    /// Tags from here on are the row's; those below are its queue's.
    package static let firstTag: UInt32 = 1 << 16

    private var source: Source
    /// Counts sources: what was waited for of one before is told from what is waited for now.
    private var serial: UInt32 = 0
    private var isArmed = false
    /// Signals that were taken.
    package private(set) var taken: UInt64 = 0

    private static let lookMicroseconds: UInt64 = 1000
    private var tag: UInt32 { Self.firstTag | serial }

    /// A row that leads from here.
    package init(_ source: Source) { self.source = source }

    /// Waits for the driver, if nobody does yet.
    package mutating func arm(_ reactor: Reactor, _ slot: ReactorSlot) {
        guard !isArmed else { return }
        switch source {
        case .messages: return
        case .descriptor(let descriptor): reactor.whenReadable(descriptor, slot, tag: tag)
        case .nothing: reactor.after(microseconds: Self.lookMicroseconds, slot, tag: tag)
        }
        isArmed = true
    }

    /// Whether a completion is the row's own; a signal is taken by that.
    package mutating func completed(_ tag: UInt32) -> Bool {
        guard tag >= Self.firstTag else { return false }
        // Of a source that has been replaced.
        guard tag == self.tag else { return true }
        isArmed = false
        if case .descriptor(let descriptor) = source { taken &+= descriptor.takeCount() }
        return true
    }

    /// Has the driver signal by something else from now on. Whoever calls looks at the ring afterwards.
    /// - Parameter slot: the client's; nil: it waits for nothing.
    package mutating func route(from source: Source, _ reactor: Reactor, _ slot: ReactorSlot?) {
        if isArmed, let slot { reactor.cancelWait(slot, tag: tag) }
        serial = (serial &+ 1) & (Self.firstTag - 1)
        isArmed = false
        self.source = source
    }

    /// What was waited for is waited for no more, for the client has another slot.
    package mutating func forget() { isArmed = false }
}
