// What a device did between two readings of its counters.

import DeviceControl

/// What one device did between two readings.
struct DeviceRates {
    let subject: DeviceSubject
    let now: DeviceReading
    private let before: DeviceReading?
    private let seconds: Double

    /// Those that are there now.
    static func all(before: [DeviceReading], now: [DeviceReading], seconds: Double) -> [DeviceRates] {
        now.map { reading in
            DeviceRates(
                subject: reading.subject, now: reading, before: before.first { $0.subject == reading.subject }, seconds: seconds)
        }
    }

    /// By how much a counter grew. One that is smaller than it was began anew with another connection, or another
    /// backend.
    func growth(_ name: String) -> UInt64 {
        let (new, old) = (now[name], before?[name] ?? 0)
        return new >= old ? new - old : new
    }

    private func perSecond(_ name: String) -> Double { Double(growth(name)) / seconds }

    /// How often what `names` count came, a second.
    func perSecond(_ names: [String]) -> Double { names.reduce(0) { $0 + perSecond($1) } }

    /// How long all requests of the time took.
    var latency: LatencyHistogram {
        now.latencies.reduce(LatencyHistogram()) { sum, latency in
            let earlier = before?.latencies.first { $0.operation == latency.operation }?.histogram
            return sum + (earlier.map { latency.histogram.since($0) } ?? latency.histogram)
        }
    }
}
