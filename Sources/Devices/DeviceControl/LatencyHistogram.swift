// How long things took: counts in buckets that grow with the time, as HdrHistogram's do.

/// Durations, each counted in a bucket whose width is at most an eighth of its lower bound. A value: two of them can be
/// added, and one taken from a later one of the same counts.
public struct LatencyHistogram: Equatable, Sendable {
    /// Counts, by `bucket(of:)`; as many as were needed.
    public private(set) var counts: [UInt64] = []
    /// All durations together, in nanoseconds; wraps.
    public private(set) var nanoseconds: UInt64 = 0

    /// Nothing yet.
    public init() {}

    /// As it was told elsewhere.
    /// - Parameter counts: a bucket's number, below `bucketCount`, and its count; others are left out.
    public init(counts: some Sequence<(bucket: Int, count: UInt64)>, nanoseconds: UInt64) {
        for (bucket, count) in counts where (0..<Self.bucketCount).contains(bucket) { add(count, to: bucket) }
        self.nanoseconds = nanoseconds
    }

    // MARK: Buckets

    /// Buckets that there can be: the last one has everything from 2^40 ns (18 minutes) on.
    public static let bucketCount = (40 - 3 + 1) * 8 + 1

    /// The bucket that counts a duration: each nanosecond has its own up to 15, and each power of two has eight from
    /// there on.
    public static func bucket(of nanoseconds: UInt64) -> Int {
        if nanoseconds < 8 { return Int(nanoseconds) }
        let exponent = 63 - nanoseconds.leadingZeroBitCount
        if exponent >= 40 { return bucketCount - 1 }
        return (exponent - 2) * 8 + Int(nanoseconds >> UInt64(exponent - 3) & 7)
    }

    /// The least duration, in nanoseconds, that is too long for a bucket; the last one has none.
    public static func end(of bucket: Int) -> UInt64 {
        if bucket >= bucketCount - 1 { return .max }
        if bucket < 8 { return UInt64(bucket) + 1 }
        return UInt64(bucket % 8 + 9) << UInt64(bucket / 8 - 1)
    }

    // MARK: Counting

    /// Counts a duration, in nanoseconds, `weight` times.
    public mutating func record(_ duration: UInt64, weight: UInt64 = 1) {
        add(weight, to: Self.bucket(of: duration))
        nanoseconds &+= duration &* weight
    }

    private mutating func add(_ count: UInt64, to bucket: Int) {
        if bucket >= counts.count { counts += repeatElement(0, count: bucket + 1 - counts.count) }
        counts[bucket] &+= count
    }

    /// Those of both.
    public static func + (left: Self, right: Self) -> Self {
        var sum = left
        for (bucket, count) in right.counts.enumerated() { sum.add(count, to: bucket) }
        sum.nanoseconds &+= right.nanoseconds
        return sum
    }

    /// Those that came since `earlier`; all, if counting began anew since.
    public func since(_ earlier: Self) -> Self {
        var rest = self
        for (bucket, count) in earlier.counts.enumerated() where count > 0 {
            guard bucket < counts.count, counts[bucket] >= count else { return self }
            rest.counts[bucket] -= count
        }
        rest.nanoseconds &-= earlier.nanoseconds
        return rest
    }

    // MARK: What it says

    /// Durations counted.
    public var count: UInt64 { counts.reduce(0, &+) }

    /// Durations below `nanoseconds`: exact where a bucket ends there, as one does at each power of two; else those of
    /// the whole buckets.
    public func count(below nanoseconds: UInt64) -> UInt64 {
        var sum: UInt64 = 0
        for (bucket, count) in counts.enumerated() where Self.end(of: bucket) <= nanoseconds { sum &+= count }
        return sum
    }

    /// The duration, in nanoseconds, that `share` of all (0 to 1) do not exceed: the last that its bucket counts. nil:
    /// there are none.
    public func quantile(_ share: Double) -> UInt64? {
        let all = count
        guard all > 0 else { return nil }
        let rank = max(1, UInt64((Double(all) * share).rounded(.up)))
        var sum: UInt64 = 0
        for (bucket, count) in counts.enumerated() {
            sum &+= count
            if sum >= rank { return Self.end(of: bucket) - 1 }
        }
        return Self.end(of: counts.count - 1) - 1
    }

    /// The longest, as far as its bucket tells; nil: there are none.
    public var longest: UInt64? { quantile(1) }
}
