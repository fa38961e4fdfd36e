// Every number of a host and its devices as metrics.

import CommandSupport
import Glibc
import Toolstack

/// What a host and those who serve on it say at one moment.
struct HostMetrics {
    private let usages: [HostCounters]
    private let devices: [DeviceReading]
    /// Guests' names, by number; none where there is no store to ask.
    private let guests: [String: String]
    /// Processes that have left their sockets.
    let dead: [pid_t]

    /// Asks them.
    /// - Throws: if nobody is there at all.
    init(of directory: RunDirectory) throws(Failure) {
        devices = DeviceReading.all(in: directory)
        dead = StatusClient.dead(in: directory.path)
        let anybody = !devices.isEmpty || !dead.isEmpty || StatusClient.isAnybodyThere(in: directory.path)
        usages = try HostCounters.all(of: directory, mayBeNone: anybody)
        var names = GuestNames()
        names.learn(Set(devices.map(\.subject.domain)), in: directory)
        guests = names.byDomain
    }

    /// All of them, in the text format of Prometheus.
    var lines: [String] {
        var families = about
        families += Self.families("host", usages.filter { $0.domain == nil })
        families += Self.families("domain", usages.filter { $0.domain != nil })
        for kind in ["vbd", "vif", "netfront"] {
            let ofKind = devices.filter { $0.subject.kind == kind }
            if !ofKind.isEmpty { families += counters(kind, ofKind) }
        }
        families += [failures, latencies]
        return families.filter { !$0.isEmpty }.flatMap(\.lines)
    }

    /// Which program this is, and whether those that began are still there.
    private var about: [MetricFamily] {
        var build = MetricFamily("causeway_build_info", .gauge, "Always 1; the version of the command that tells.")
        build.add([("version", causewayVersion)], 1)
        var isUp = MetricFamily(
            "causeway_up", .gauge, "1: every backend that serves here answers; 0: one has died and left its socket.")
        isUp.add([], dead.isEmpty ? 1 : 0)
        return [build, isUp]
    }

    private static func families(_ prefix: String, _ usages: [HostCounters]) -> [MetricFamily] {
        (usages.first?.counters ?? []).enumerated().map { place, counter in
            var family = MetricFamily("causeway_\(prefix)_\(counter.name)", .gauge, counter.meaning)
            for usage in usages { family.add(usage.domain.map { [("domain", $0)] } ?? [], UInt64(usage.counters[place].count)) }
            return family
        }
    }

    /// Whose a number is: numbers as the store has them, and names as people do.
    private func labels(_ device: DeviceReading) -> MetricFamily.Labels {
        let subject = device.subject
        return [
            ("domain", subject.domain), ("device", subject.number), ("guest", guests[subject.domain] ?? ""),
            ("vdev", subject.vdev), ("target", device.words[DeviceReading.target] ?? ""),
        ]
    }

    /// What is counted of devices of one kind. Where there is a number for each reason, they are one metric.
    private func counters(_ kind: String, _ devices: [DeviceReading]) -> [MetricFamily] {
        var families: [MetricFamily] = []
        var byReason: [ReasonCounter.Family: MetricFamily] = [:]
        for (name, meaning) in CounterMeaning.table(of: kind) {
            guard let reason = ReasonCounter(name) else {
                var family = MetricFamily("causeway_\(kind)_\(name)", meaning.isTotal ? .counter : .gauge, meaning.text)
                for device in devices { family.add(labels(device), device[name]) }
                families.append(family)
                continue
            }
            var family =
                byReason[reason.family]
                ?? MetricFamily("causeway_\(kind)_\(reason.family.rawValue)", .counter, reason.family.meaning)
            for device in devices { family.add(labels(device) + reason.labels, device[name]) }
            byReason[reason.family] = family
        }
        return families + ReasonCounter.Family.allCases.compactMap { byReason[$0] }
    }

    /// What disks failed, by operation and reason.
    private var failures: MetricFamily {
        var family = MetricFamily("causeway_vbd_failures", .counter, "Operations that the disk failed, by what it said.")
        for device in devices {
            for number in device.numbers {
                guard let name = FailureName(number.name) else { continue }
                family.add(labels(device) + [("operation", name.operation), ("errno", name.error)], number.value)
            }
        }
        return family
    }

    private var latencies: MetricFamily {
        var family = MetricFamily(
            "causeway_vbd_latency_seconds", .histogram,
            "How long requests took from the ring to their answers; of a busy queue a sample, weighted.")
        for device in devices {
            for (operation, histogram) in device.latencies { family.add(labels(device) + [("operation", operation)], histogram) }
        }
        return family
    }
}

/// A counter that is one of several, each for a reason.
private struct ReasonCounter {
    /// What they count together.
    enum Family: String, CaseIterable {
        case drops
        case bounced

        var meaning: String {
            switch self {
            case .drops: "Frames dropped, by where they were going and why."
            case .bounced: "Pieces that went through the bounce pool, by why."
            }
        }
    }

    let family: Family
    let labels: MetricFamily.Labels

    /// nil: the counter is none such.
    init?(_ name: String) {
        for (prefix, family, labels) in Self.prefixes where name.hasPrefix(prefix) {
            self.family = family
            self.labels = labels + [("reason", String(name.dropFirst(prefix.count)))]
            return
        }
        return nil
    }

    private static var prefixes: [(String, Family, MetricFamily.Labels)] {
        [
            ("receive-dropped-", .drops, [("direction", "receive")]), ("transmit-dropped-", .drops, [("direction", "transmit")]),
            ("bounced-", .bounced, []),
        ]
    }
}
