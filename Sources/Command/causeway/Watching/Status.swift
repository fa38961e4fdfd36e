// causeway status: what is in use on a host; every number returns to where it was when a guest is gone.

import ArgumentParser
import CommandSupport
import DeviceControl

struct Status: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Shows what each domain of a host holds: grants, mappings, ports, store nodes, watches, descriptors.",
        discussion: """
            Below that, for each disk and interface: requests or frames, DMA mappings live and made, pieces bounced by reason (mask, straddle,
            alignment, segments, foreign, sub-granule, untrusted), the bounce pool's fill, the IOTLB's hits and misses, ranges unmapped but
            still within the device's reach (deferred mode), accesses that the IOMMU refused, and transfers that could not be mapped; then how
            long requests took, from when they were taken from the ring to when they were answered. Of a busy queue one request in up to 1024 is
            timed, and stands for those between.
            """)

    @OptionGroup var host: HostOptions
    @Flag(help: "One line of JSON instead of a table.") var json = false

    func run() throws {
        let directory = try host.directory()
        let devices = DeviceReading.all(in: directory)
        let dead = StatusClient.dead(in: directory.path)
        let usages = try HostCounters.all(of: directory, mayBeNone: !devices.isEmpty || !dead.isEmpty)
        show(usages, devices)
        if let dead = StatusClient.complaint(dead, in: directory) { throw Failure("status: \(dead)") }
    }

    private func show(_ usages: [HostCounters], _ devices: [DeviceReading]) {
        if json {
            return printJSON([
                "usage": JSONValue.array(usages.map(\.json)), "devices": .array(devices.map(\.json)),
            ])
        }
        if let first = usages.first {
            let heading = ["Domain"] + first.counters.map(\.name)
            for line in Table.lines([heading] + usages.map { [$0.domain ?? "host"] + $0.counters.map { "\($0.count)" } }) {
                printLine(line)
            }
        }
        for (index, device) in devices.enumerated() {
            if index > 0 || !usages.isEmpty { printLine("") }
            printLine(device.subject.text)
            // What is 0 in every healthy run is shown all the same: its absence would have to be trusted.
            for line in Table.lines(device.numbers.map { ["  " + $0.name, "\($0.value)"] }) { printLine(line) }
            for latency in device.latencies where latency.histogram.count > 0 {
                printLine("  " + latency.histogram.line(latency.operation))
            }
        }
    }
}

extension HostCounters {
    /// For `--json`.
    fileprivate var json: JSONValue {
        .object(
            Dictionary(counters.map { ($0.name, JSONValue.number(UInt64($0.count))) }) { $1 }
                .merging(["domain": .text(domain ?? "host")]) { $1 })
    }
}

extension DeviceReading {
    /// For `--json`: numbers and words by name, and under `latency` what was timed, in nanoseconds.
    fileprivate var json: JSONValue {
        var object = Dictionary(numbers.map { ($0.name, JSONValue.number($0.value)) }) { $1 }
        for (name, word) in words { object[name] = .text(word) }
        object["device"] = .text(subject.text)
        let timed = latencies.filter { $0.histogram.count > 0 }.map { ($0.operation, $0.histogram.json) }
        if !latencies.isEmpty { object["latency"] = .object(Dictionary(timed) { $1 }) }
        return .object(object)
    }
}

extension LatencyHistogram {
    /// The shares that are shown, in order.
    private static let shares: [(name: String, share: Double)] = [("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("p99.9", 0.999)]

    /// One line for people.
    fileprivate func line(_ operation: String) -> String {
        let times = Self.shares.map { "\($0.name) \(inWords(nanoseconds: quantile($0.share) ?? 0))" }
        return "\(operation) latency: \(times.joined(separator: ", ")), longest \(inWords(nanoseconds: longest ?? 0)), of \(count)"
    }

    fileprivate var json: JSONValue {
        var object: [String: JSONValue] = ["count": .number(count), "sum-ns": .number(nanoseconds)]
        for (name, share) in Self.shares { object["\(name)-ns"] = .number(quantile(share) ?? 0) }
        object["max-ns"] = .number(longest ?? 0)
        return .object(object)
    }
}
