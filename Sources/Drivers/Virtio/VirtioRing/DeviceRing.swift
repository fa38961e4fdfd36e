// A virtqueue as a device has it: the same verbs for split and packed rings, so that a device's code is written once
// and specialised for each.
//
//     ring.disarm()
//     while case .chain = try ring.take(into: &chain, from: memory) {      // as many as a turn may
//         …                                                              // ring.put(chain.ticket, written: n), now or later
//     }
//     if ring.publish() { signal() }
//     if !ring.armAndRecheck() { sleep() }
//
// Signalling is not here: a verb says that it is wanted, and whoever owns the ring knows how.

/// What `DeviceRing.take` found.
public enum Taken: Equatable, Sendable {
    /// No chain, yet.
    case none
    /// A chain; it is the device's until `put`.
    case chain
    /// A chain whose table is in memory that has no answer yet. It stays where it is; take again later.
    case later
}

/// A device's end of a ring. One thread's; pass it `inout`.
public protocol DeviceRing: ~Copyable {
    /// Entries of the ring.
    var size: Int { get }
    /// Why this ring is broken; nothing is taken from it any more. What was taken may still be answered.
    var fault: VirtqueueError? { get }
    /// Chains taken and not put.
    var unanswered: Int { get }
    /// Signals that were wanted, and that were not.
    var counters: VirtqueueCounters { get }

    /// Whether `take` would find something, or say what is wrong: true on a ring found broken, by whatever look at it,
    /// until `take` has said why.
    mutating func hasChains() -> Bool

    /// Takes the next chain over `chain`, each of its descriptors loaded once. Never more than can be answered.
    /// - Throws: what the driver did wrong; then and ever after.
    mutating func take<Memory: GuestMemory>(into chain: inout DescriptorChain, from memory: Memory) throws(VirtqueueError)
        -> Taken

    /// Gives a chain back. The driver sees it after `publish()`.
    ///
    /// Once a chain: another ticket is our own error and traps.
    /// - Parameter written: bytes written from the first writable one on, which drivers trust.
    mutating func put(_ ticket: ChainTicket, written: UInt32)

    /// Shows the driver what was put, all of it at once; true if it must be signalled.
    mutating func publish() -> Bool

    /// Asks for a kick at the next chain, then looks once more: true if it is there already and no kick can be relied
    /// on. False for ever on a ring whose fault was told: it is not worth waking for.
    mutating func armAndRecheck() -> Bool

    /// Asks for no kicks as long as the device is awake. The driver may give some nevertheless.
    mutating func disarm()

    /// Marks what the device writes into the ring from now on, and all that it may have written before; nil: no more.
    mutating func setLog(_ log: RingLog?)

    /// Where to go on, as `VHOST_USER_GET_VRING_BASE` says it. Another end begins there, when nothing is unanswered.
    var base: UInt32 { get }
}

/// How often a side woke the other, and how often it did not have to.
public struct VirtqueueCounters: Equatable, Sendable, BitwiseCopyable {
    /// Publications after which the other side wanted to be woken.
    public var notificationsSent: UInt64 = 0
    /// Publications after which it did not.
    public var notificationsSuppressed: UInt64 = 0

    @inlinable init() {}

    @inlinable @inline(__always)
    mutating func count(_ notify: Bool) {
        if notify { notificationsSent &+= 1 } else { notificationsSuppressed &+= 1 }
    }
}
