// When to unmask a port: Linux's answer (drivers/xen/events/events_base.c, lateeoi) to a peer that rings without work
// (attacks.md C5, D1). A handler says after each event whether there was anything to do; a port that keeps ringing for
// nothing stays masked for longer and longer.

/// How long one port stays masked after an event. A value without a clock: the driver unmasks now, or after what this
/// says.
public struct LateEOI: Sendable, Hashable {
    /// Spurious events in a row that cost nothing: one may always come of a race between a last response and its event.
    public static let freeSpurious = 1
    /// The first delay, in microseconds: one tick of a kernel at 250 Hz.
    public static let firstDelay: UInt64 = 4_000
    /// The longest delay, in microseconds.
    public static let longestDelay: UInt64 = 1_000_000

    /// Spurious events since the last useful one.
    public private(set) var spuriousInARow = 0
    /// Events of each kind so far.
    public private(set) var useful: UInt64 = 0
    /// Events that brought no work so far.
    public private(set) var spurious: UInt64 = 0

    /// The defaults.
    public init() {}

    /// An event was handled.
    /// - Parameter foundWork: whether there was anything to do.
    /// - Returns: microseconds to leave the port masked; 0 is to unmask at once.
    public mutating func handled(foundWork: Bool) -> UInt64 {
        if foundWork {
            useful &+= 1
            spuriousInARow = 0
            return 0
        }
        spurious &+= 1
        // Beyond 63 the delay would be the longest in any case.
        spuriousInARow = min(spuriousInARow + 1, 63)
        let doublings = spuriousInARow - 1 - Self.freeSpurious
        if doublings < 0 { return 0 }
        // 2^8 ticks are more than the longest delay.
        return doublings >= 8 ? Self.longestDelay : min(Self.firstDelay << UInt64(doublings), Self.longestDelay)
    }
}
