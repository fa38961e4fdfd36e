// What can be wrong with a ring: always the peer's doing. A broken ring stays broken; its owner quarantines the device.

/// A peer that breaks the ring protocol.
public enum RingError: Error, Equatable, Sendable, CustomStringConvertible {
    /// The peer's producer index is further than the ring allows, or went backwards.
    /// - Parameters:
    ///   - produced: what the peer published.
    ///   - consumed: how far we are.
    ///   - limit: the most entries that could lie between the two.
    case peerLies(produced: UInt32, consumed: UInt32, limit: UInt32)
    /// A ring to be adopted whose indices are further apart than its slots.
    case notAdoptable(requestProduced: UInt32, responseProduced: UInt32, slots: UInt32)

    /// `the peer's producer index 70 is 66 past 4; at most 32 can be`.
    public var description: String {
        switch self {
        case .peerLies(let produced, let consumed, let limit):
            "the peer's producer index \(produced) is \(produced &- consumed) past \(consumed); at most \(limit) can be"
        case .notAdoptable(let requests, let responses, let slots):
            "cannot adopt a ring of \(slots) slots with \(requests) requests and \(responses) responses produced"
        }
    }
}

/// How often a side woke its peer, and how often it did not have to.
public struct RingCounters: Equatable, Sendable, BitwiseCopyable {
    /// Publications after which the peer wanted to be notified.
    public var notificationsSent: UInt64
    /// Publications after which it did not.
    public var notificationsSuppressed: UInt64

    @inlinable
    init() {
        notificationsSent = 0
        notificationsSuppressed = 0
    }

    @inlinable @inline(__always)
    mutating func count(_ notify: Bool) {
        if notify { notificationsSent &+= 1 } else { notificationsSuppressed &+= 1 }
    }
}
