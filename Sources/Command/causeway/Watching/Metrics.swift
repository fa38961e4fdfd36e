// causeway metrics: every number of a host and its backends in the text format of Prometheus.
// https://prometheus.io/docs/instrumenting/exposition_formats/

import ArgumentParser
import CommandSupport

struct Metrics: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Prints every counter once, in the text format of Prometheus.",
        discussion: """
            For node_exporter's textfile collector, or any other scraper:
              causeway metrics > /var/lib/prometheus/node-exporter/causeway.prom.new &&
                mv /var/lib/prometheus/node-exporter/causeway.prom{.new,}
            causeway_vbd_… and causeway_vif_… are a device's, as its backend counts, with the frontend's domain and the device's number; what a
            disk failed is causeway_vbd_failures_total, by operation and errno; causeway_netfront_… an interface's, as its frontend counts;
            causeway_domain_… what a domain of a loopback host holds, causeway_host_… the host itself.
            """)

    @OptionGroup var host: HostOptions

    func run() throws {
        let directory = try host.directory()
        let devices = DeviceReading.all(in: directory)
        let anybody = !devices.isEmpty || StatusClient.isAnybodyThere(in: directory.path)
        var families = Self.families(try HostCounters.all(of: directory, mayBeNone: anybody))
        for kind in ["vbd", "vif", "netfront"] { families += Self.families(kind, devices.filter { $0.subject.kind == kind }) }
        families += Self.failures(devices)
        for family in families { for line in family.lines { printLine(line) } }
    }

    private static func families(_ usages: [HostCounters]) -> [MetricFamily] {
        let host = usages.filter { $0.domain == nil }
        let domains = usages.filter { $0.domain != nil }
        return families("host", host) + families("domain", domains)
    }

    private static func families(_ prefix: String, _ usages: [HostCounters]) -> [MetricFamily] {
        (usages.first?.counters ?? []).enumerated().map { place, counter in
            MetricFamily(
                name: "causeway_\(prefix)_\(counter.name)", isTotal: false, meaning: counter.meaning,
                samples: usages.map { ($0.domain.map { [("domain", $0)] } ?? [], UInt64($0.counters[place].count)) })
        }
    }

    private static func families(_ kind: String, _ devices: [DeviceReading]) -> [MetricFamily] {
        if devices.isEmpty { return [] }
        return CounterMeaning.table(of: kind).map { name, meaning in
            MetricFamily(
                name: "causeway_\(kind)_\(name)", isTotal: meaning.isTotal, meaning: meaning.text,
                samples: devices.map { device in
                    ([("domain", device.subject.domain), ("device", device.subject.number)], device[name])
                })
        }
    }
}

extension Metrics {
    /// What disks failed, by reason; no family while there is nothing of it.
    static func failures(_ devices: [DeviceReading]) -> [MetricFamily] {
        var samples: [MetricFamily.Sample] = []
        for device in devices {
            for number in device.numbers {
                guard let name = FailureName(number.name) else { continue }
                let labels = [
                    (name: "domain", value: device.subject.domain), (name: "device", value: device.subject.number),
                    (name: "operation", value: name.operation), (name: "errno", value: name.error),
                ]
                samples.append((labels, number.value))
            }
        }
        if samples.isEmpty { return [] }
        return [
            MetricFamily(
                name: "causeway_vbd_failures", isTotal: true, meaning: "Operations that the disk failed, by what it said.",
                samples: samples)
        ]
    }
}

/// One metric with its samples.
struct MetricFamily {
    /// Letters, digits and `_`.
    private let name: String
    private let isTotal: Bool
    private let meaning: String
    private let samples: [Sample]

    /// A number, and whose it is.
    typealias Sample = (labels: [(name: String, value: String)], value: UInt64)

    init(name: String, isTotal: Bool, meaning: String, samples: [Sample]) {
        self.name = name.map { $0 == "-" ? "_" : "\($0)" }.joined() + (isTotal ? "_total" : "")
        self.isTotal = isTotal
        self.meaning = meaning
        self.samples = samples
    }

    var lines: [String] {
        ["# HELP \(name) \(meaning)", "# TYPE \(name) \(isTotal ? "counter" : "gauge")"]
            + samples.map { labels, value in
                let inside = labels.map { "\($0.name)=\"\($0.value)\"" }.joined(separator: ",")
                return labels.isEmpty ? "\(name) \(value)" : "\(name){\(inside)} \(value)"
            }
    }
}
