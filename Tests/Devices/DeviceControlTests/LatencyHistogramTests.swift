// Times in buckets against the times themselves.

import DeviceControl
import TestSupport
import Testing

@Suite("histograms of times") struct LatencyHistogramTests {
    @Test("each duration is in the bucket whose bounds hold it, and no bucket is wider than an eighth of where it begins")
    func buckets() {
        var begin: UInt64 = 0
        for bucket in 0..<LatencyHistogram.bucketCount - 1 {
            let end = LatencyHistogram.end(of: bucket)
            #expect(end > begin && (end - begin == 1 || (end - begin) * 8 <= begin), "\(bucket): \(begin)..<\(end)")
            for duration in [begin, end - 1] { #expect(LatencyHistogram.bucket(of: duration) == bucket) }
            begin = end
        }
        #expect(begin == 1 << 40)
        for duration in [begin, .max] { #expect(LatencyHistogram.bucket(of: duration) == LatencyHistogram.bucketCount - 1) }
    }

    @Test(
        "shares are those of the sorted times, an eighth too long at most; counts below powers of two are exact", arguments: 0..<20)
    func shares(seed: UInt64) {
        var random = SplitMix(seed)
        let times = (0..<Int.random(in: 1...3000, using: &random)).map { _ in
            UInt64.random(in: 0...UInt64(1) << UInt64.random(in: 0...42, using: &random), using: &random)
        }
        var histogram = LatencyHistogram()
        for time in times { histogram.record(time) }
        let sorted = times.sorted()
        #expect(histogram.count == UInt64(times.count) && histogram.nanoseconds == times.reduce(0, &+))
        for share in [0, 0.1, 0.5, 0.9, 0.99, 1] {
            let exact = sorted[max(0, Int((Double(times.count) * share).rounded(.up)) - 1)]
            let said = histogram.quantile(share) ?? 0
            #expect(said >= exact && (exact >= 1 << 40 || said <= exact + exact / 8), "\(share): \(said) for \(exact)")
        }
        for power in 0...40 {
            let bound = UInt64(1) << UInt64(power)
            #expect(histogram.count(below: bound) == UInt64(times.count { $0 < bound }))
        }
    }

    @Test("an earlier one taken from a later one of the same leaves what came between; one that began anew stays")
    func since() {
        var (first, rest) = (LatencyHistogram(), LatencyHistogram())
        for time in [5, 900, 70_000] as [UInt64] { first.record(time, weight: 3) }
        var all = first
        for time in [6, 900, 1 << 41] as [UInt64] {
            all.record(time)
            rest.record(time)
        }
        #expect(all.since(first) == rest)
        #expect(first + rest == all)
        #expect(rest.since(all) == rest)
        #expect(LatencyHistogram().quantile(0.5) == nil && LatencyHistogram().longest == nil)
    }

    @Test("one that is made of another's counts is the same, and buckets that nobody has are left out")
    func told() {
        var histogram = LatencyHistogram()
        for time in [0, 1, 77, 12345, .max] as [UInt64] { histogram.record(time) }
        let counts = histogram.counts.enumerated().map { (bucket: $0, count: $1) }
        #expect(LatencyHistogram(counts: counts + [(-1, 5), (100_000, 5)], nanoseconds: histogram.nanoseconds) == histogram)
    }
}
