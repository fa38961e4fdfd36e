// Interrupts as counters: a device has vectors, and one table says where each leads: an event channel, an eventfd, or whoever a
// message (an address and data, as a device writes them) is routed to. A masked vector keeps one interrupt pending and counts the
// rest.

import LinuxSystem
import Synchronization

/// A message-signalled interrupt as the device sends it.
public struct InterruptMessage: Hashable, Sendable, CustomStringConvertible {
    /// Where the device writes.
    public var address: BusAddress
    /// What it writes.
    public var data: UInt32
    /// A message.
    public init(address: BusAddress, data: UInt32) {
        self.address = address
        self.data = data
    }
    /// `0xfee00000 = 0x21`.
    public var description: String { "\(address) = 0x" + String(data, radix: 16) }
}

/// A device's vector.
public struct InterruptVector: Hashable, Sendable, CustomStringConvertible {
    /// Whose.
    public var device: String
    /// Which of the device's, from 0.
    public var number: Int
    /// A vector; it exists once it is routed.
    public init(device: String, number: Int) {
        self.device = device
        self.number = number
    }
    /// `vbd-51712, vector 2`.
    public var description: String { "\(device), vector \(number)" }
}

/// Where a vector leads.
public enum InterruptRoute: Sendable {
    /// Nowhere yet: its interrupts are counted, and one is kept.
    case none
    /// An event channel, or anything else that is notified by a call.
    case channel(@Sendable () -> Void)
    /// A counter of the kernel's, which a thread or a hypervisor waits for.
    case eventfd(Descriptor)
}

/// What has become of a vector's interrupts.
public struct InterruptCounts: Hashable, Sendable {
    /// How often it was raised.
    public var raised: UInt64 = 0
    /// How often its route took it.
    public var delivered: UInt64 = 0
    /// Raised while masked or unrouted, beyond the one that is kept.
    public var merged: UInt64 = 0
    /// Those that the route did not take.
    public var failed: UInt64 = 0
}

/// The table. Any thread.
public final class InterruptRouting: Sendable {
    private struct Entry {
        var route = InterruptRoute.none
        var message: InterruptMessage?
        var isMasked = false
        var isPending = false
        var counts = InterruptCounts()
    }
    private struct Table {
        var entries: [InterruptVector: Entry] = [:]
        var messages: [InterruptMessage: InterruptVector] = [:]
        var nextData: UInt32 = 0
        var unknown: UInt64 = 0
    }
    private let table = Mutex(Table())

    /// Where messages are sent, as on a PC. A device's mask must reach it.
    public static let messageAddress: UInt64 = 0xFEE0_0000
    /// Vectors that a device may have (MSI-X).
    public static let vectorLimit = 2048

    /// An empty table.
    public init() {}

    /// Says where a vector leads; it is made if it is new. What was pending is delivered. False if the number is out of range.
    @discardableResult
    public func route(_ vector: InterruptVector, to route: InterruptRoute) -> Bool {
        guard (0..<Self.vectorLimit).contains(vector.number) else { return false }
        table.withLock { table in
            table.entries[vector, default: Entry()].route = route
            deliverPending(vector, &table)
        }
        return true
    }

    /// The message by which the device raises a vector: made for it once, no two have the same. nil if there is no such vector.
    public func message(for vector: InterruptVector) -> InterruptMessage? {
        table.withLock { table in
            guard let entry = table.entries[vector] else { return nil }
            if let message = entry.message { return message }
            var message: InterruptMessage
            repeat {
                message = InterruptMessage(address: BusAddress(rawValue: Self.messageAddress), data: table.nextData)
                table.nextData &+= 1
            } while table.messages[message] != nil
            table.entries[vector]?.message = message
            table.messages[message] = vector
            return message
        }
    }

    /// A device writes a message. False, and counted, if it is nobody's: a device cannot raise what it was not given.
    /// - Parameter device: who writes, as the bus knows it.
    @discardableResult
    public func receive(_ message: InterruptMessage, from device: String) -> Bool {
        table.withLock { table in
            guard let vector = table.messages[message], vector.device == device else {
                table.unknown &+= 1
                return false
            }
            raise(vector, &table)
            return true
        }
    }

    /// Raises a vector. False if there is no such vector.
    @discardableResult
    public func raise(_ vector: InterruptVector) -> Bool {
        table.withLock { table in
            guard table.entries[vector] != nil else { return false }
            raise(vector, &table)
            return true
        }
    }

    /// Holds a vector's interrupts back.
    public func mask(_ vector: InterruptVector) { table.withLock { $0.entries[vector]?.isMasked = true } }

    /// Lets them through again; one that was raised meanwhile is delivered.
    public func unmask(_ vector: InterruptVector) {
        table.withLock { table in
            table.entries[vector]?.isMasked = false
            deliverPending(vector, &table)
        }
    }

    /// Forgets a device: its vectors and messages lead nowhere any more.
    public func remove(device: String) {
        table.withLock { table in
            table.entries = table.entries.filter { $0.key.device != device }
            table.messages = table.messages.filter { $0.value.device != device }
        }
    }

    /// What has become of a vector's interrupts.
    public func counts(_ vector: InterruptVector) -> InterruptCounts? { table.withLock { $0.entries[vector]?.counts } }
    /// Messages that were nobody's, or came from the wrong device.
    public var unknownMessages: UInt64 { table.withLock { $0.unknown } }
    /// Vectors there are.
    public var vectorCount: Int { table.withLock { $0.entries.count } }

    private func raise(_ vector: InterruptVector, _ table: inout Table) {
        table.entries[vector]?.counts.raised &+= 1
        if table.entries[vector]?.isPending == true { table.entries[vector]?.counts.merged &+= 1 }
        table.entries[vector]?.isPending = true
        deliverPending(vector, &table)
    }

    /// Under the lock, so that two interrupts of a vector are delivered in order; a route's call must not come back here.
    private func deliverPending(_ vector: InterruptVector, _ table: inout Table) {
        guard var entry = table.entries[vector], entry.isPending, !entry.isMasked else { return }
        switch entry.route {
        case .none: return
        case .channel(let notify):
            notify()
            entry.counts.delivered &+= 1
        case .eventfd(let descriptor):
            if KernelEvents.signal(descriptor) { entry.counts.delivered &+= 1 } else { entry.counts.failed &+= 1 }
        }
        entry.isPending = false
        table.entries[vector] = entry
    }
}
