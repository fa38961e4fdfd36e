// How much a frontend may send: so many bytes a period, never less at once than the largest frame, or that could never
// pass (protocol-rules.md 42).

import Synchronization
import XenBus

/// `BYTES,MICROSECONDS`, as the `rate` node has it.
public struct CreditRate: Hashable, Sendable {
    /// Bytes in each interval.
    public let bytes: UInt64
    /// At least 1.
    public let microseconds: UInt64

    /// Nil if either is 0 or makes no sense.
    public init?(bytes: UInt64, microseconds: UInt64) {
        guard bytes > 0, microseconds > 0, bytes < 1 << 48, microseconds < 1 << 40 else { return nil }
        self.bytes = bytes
        self.microseconds = microseconds
    }

    /// Parses the node.
    public init?(_ text: String) {
        let parts = text.split(separator: ",", omittingEmptySubsequences: false)
        guard parts.count == 2, let bytes = StoreNumber.parse(parts[0], as: UInt64.self),
            let time = StoreNumber.parse(parts[1], as: UInt64.self)
        else { return nil }
        self.init(bytes: bytes, microseconds: time)
    }
}

/// What is left of a rate. Time is handed in, so that tests need no clock; it never goes back (attacks.md B31).
struct Credit {
    /// The least that may be sent at once.
    static let leastBurst: UInt64 = 131_072
    private let rate: CreditRate?
    private(set) var left: UInt64
    private var periodStart: UInt64

    init(_ rate: CreditRate?, now: UInt64) {
        self.rate = rate
        left = rate.map { max($0.bytes, Self.leastBurst) } ?? .max
        periodStart = now
    }

    /// Takes `count` bytes; nil: taken, else the microseconds until it is worth trying again. Without a rate the clock
    /// is not looked at: that costs as much as a tenth of a small packet.
    @inline(__always)
    mutating func take(_ count: Int, now: @autoclosure () -> UInt64) -> UInt64? {
        guard let rate else { return nil }
        return take(count, rate, now())
    }

    private mutating func take(_ count: Int, _ rate: CreditRate, _ now: UInt64) -> UInt64? {
        let wanted = UInt64(count)
        if wanted > left { replenish(rate, now) }
        if wanted <= left {
            left -= wanted
            return nil
        }
        let passed = now > periodStart ? now - periodStart : 0
        return max(1, rate.microseconds - min(passed, rate.microseconds - 1))
    }

    private mutating func replenish(_ rate: CreditRate, _ now: UInt64) {
        guard now > periodStart else { return }
        let periods = (now - periodStart) / rate.microseconds
        guard periods > 0 else { return }
        let most = max(rate.bytes, Self.leastBurst)
        let (earned, overflow) = rate.bytes.multipliedReportingOverflow(by: periods)
        left = overflow || earned > most - min(left, most) ? most : left + earned
        periodStart += periods * rate.microseconds
    }
}

/// The credit of an interface, which its queues share, whichever threads they are on: a rate is the interface's.
final class SharedCredit: Sendable {
    /// Whether there is a rate at all: a look that every packet costs, and the lock only those that are held to one.
    private let isLimited: Atomic<Bool>
    private let credit: Mutex<Credit>

    /// - Parameter now: microseconds.
    init(_ rate: CreditRate?, now: UInt64) {
        isLimited = Atomic(rate != nil)
        credit = Mutex(Credit(rate, now: now))
    }

    /// See `Credit.take`.
    @inline(__always)
    func take(_ count: Int, now: @autoclosure () -> UInt64) -> UInt64? {
        guard isLimited.load(ordering: .relaxed) else { return nil }
        let now = now()
        return credit.withLock { $0.take(count, now: now) }
    }

    /// From now on the frontend may send so much.
    func set(_ rate: CreditRate?, now: UInt64) {
        credit.withLock { $0 = Credit(rate, now: now) }
        isLimited.store(rate != nil, ordering: .relaxed)
    }
}
