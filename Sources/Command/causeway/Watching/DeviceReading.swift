// What status sockets say, device by device.

import CommandSupport
import DeviceControl

/// What a device's backend said of it.
struct DeviceReading {
    let subject: DeviceSubject
    /// In the order in which they came.
    private(set) var numbers: [(name: String, value: UInt64)] = []
    /// What is no number, by name.
    private(set) var words: [String: String] = [:]
    /// How long its requests took, by what they asked for, in the order in which they came.
    private(set) var latencies: [(operation: String, histogram: LatencyHistogram)] = []

    /// The word for what a device is of: a file, a tap.
    static let target = "target"

    subscript(_ name: String) -> UInt64 { numbers.first { $0.name == name }?.value ?? 0 }

    /// What all processes of a run directory say.
    static func all(in directory: RunDirectory) -> [DeviceReading] { all(StatusClient.lines(in: directory.path)) }

    /// The same, from their lines.
    static func all(_ lines: [StatusLine]) -> [DeviceReading] {
        var readings: [DeviceReading] = []
        var places: [DeviceSubject: Int] = [:]
        for line in lines {
            guard let subject = DeviceSubject(line.subject) else { continue }
            let place = places[subject] ?? readings.count
            if place == readings.count {
                places[subject] = place
                readings.append(DeviceReading(subject: subject))
            }
            readings[place].take(line)
        }
        return readings.sorted { $0.subject < $1.subject }
    }

    /// A device has one backend; while one hands over to its successor the later one's word counts.
    private mutating func take(_ line: StatusLine) {
        switch line.value {
        case .text(let text): words[line.name] = text
        case .number(let number):
            if let latency = LatencyName(line.name) { return take(latency, number) }
            if let index = numbers.firstIndex(where: { $0.name == line.name }) {
                numbers[index].value = number
            } else {
                numbers.append((line.name, number))
            }
        }
    }

    private mutating func take(_ name: LatencyName, _ number: UInt64) {
        let place = latencies.firstIndex { $0.operation == name.operation }
        guard let bucket = name.bucket else {
            let begun = LatencyHistogram(counts: [], nanoseconds: number)
            if let place { latencies[place].histogram = begun } else { latencies.append((name.operation, begun)) }
            return
        }
        guard let place else { return }
        latencies[place].histogram = latencies[place].histogram + LatencyHistogram(counts: [(bucket, number)], nanoseconds: 0)
    }
}
