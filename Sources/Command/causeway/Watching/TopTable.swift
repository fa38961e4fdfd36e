// A table of `causeway top`: disks, then interfaces, each with a line for all of them together.

import CommandSupport
import DeviceControl
import Toolstack

/// What the lines of a table are in order of.
enum TopOrder: String, CaseIterable {
    /// By domain and number.
    case name
    /// Those with the most requests or frames a second first.
    case rate
    /// Those that move the most bytes first.
    case bytes
    /// Those whose slow requests are slowest first.
    case latency

    /// The key that chooses it.
    var key: Character { rawValue.first ?? " " }
}

/// One kind of device in a table.
struct TopTable {
    /// A column: its heading, a device's cell, and what the last line has there.
    private struct Column {
        let heading: String
        let cell: (DeviceRates) -> String
        let total: ([DeviceRates]) -> String

        /// What can be added up.
        static func sum(_ heading: String, decimals: Int = 0, _ value: @escaping (DeviceRates) -> Double) -> Column {
            Column(heading: heading, cell: { fixed(value($0), decimals) }) { rates in
                fixed(rates.reduce(0) { $0 + value($1) }, decimals)
            }
        }

        /// A time that a share of all requests do not exceed, in microseconds.
        static func microseconds(_ heading: String, _ share: Double) -> Column {
            func cell(_ histogram: LatencyHistogram) -> String {
                histogram.quantile(share).map { fixed(Double($0) / 1000, $0 < 10_000 ? 1 : 0) } ?? "-"
            }
            return Column(heading: heading, cell: { cell($0.latency) }) { rates in
                cell(rates.reduce(LatencyHistogram()) { $0 + $1.latency })
            }
        }

        /// Doorbells both ways, for each of what `names` count.
        static func doorbells(_ heading: String, _ names: [String]) -> Column {
            func cell(_ rates: [DeviceRates]) -> String {
                let moved = rates.reduce(0) { sum, rates in names.reduce(sum) { $0 + rates.growth($1) } }
                let rung = rates.reduce(0) { $0 + $1.growth("doorbells-sent") + $1.growth("doorbells-taken") }
                return moved == 0 ? "-" : fixed(Double(rung) / Double(moved), 2)
            }
            return Column(heading: heading, cell: { cell([$0]) }, total: cell)
        }
    }

    private let heading: String
    /// What is counted by the rate that lines are ordered by, and drawn.
    private let moved: [String]
    private let bytes: [String]
    private let columns: [Column]

    static var disks: TopTable {
        TopTable(
            heading: "Disk", moved: ["requests"], bytes: ["read-bytes", "written-bytes"],
            columns: [
                .sum("queues") { Double($0.now["queues"]) },
                .sum("reads/s") { $0.perSecond(["reads"]) },
                .sum("read MiB/s", decimals: 1) { $0.perSecond(["read-bytes"]) / 1_048_576 },
                .sum("writes/s") { $0.perSecond(["writes"]) },
                .sum("written MiB/s", decimals: 1) { $0.perSecond(["written-bytes"]) / 1_048_576 },
                .sum("flushes/s") { $0.perSecond(["flushes"]) },
                .microseconds("p50 µs", 0.5), .microseconds("p99 µs", 0.99),
                .sum("errors") { Double($0.growth("rejected") + $0.growth("failed")) },
                .doorbells("doorbells/request", ["requests"]),
            ])
    }

    static var interfaces: TopTable {
        TopTable(
            heading: "Interface", moved: ["received", "transmitted"], bytes: ["received-bytes", "transmitted-bytes"],
            columns: [
                .sum("queues") { Double($0.now["queues"]) },
                .sum("to/s") { $0.perSecond(["received"]) },
                .sum("to Mb/s", decimals: 1) { $0.perSecond(["received-bytes"]) * 8 / 1e6 },
                .sum("from/s") { $0.perSecond(["transmitted"]) },
                .sum("from Mb/s", decimals: 1) { $0.perSecond(["transmitted-bytes"]) * 8 / 1e6 },
                .sum("dropped") { Double($0.growth("receive-dropped") + $0.growth("transmit-dropped")) },
                .sum("errors") { Double($0.growth("transmit-errors")) },
                .doorbells("doorbells/frame", ["received", "transmitted"]),
            ])
    }

    /// The lines; none if there is no such device.
    /// - Parameters:
    ///   - names: guests' names, by number.
    ///   - history: what each device did before, drawn behind its line; nil: nothing is drawn.
    func lines(
        _ rates: [DeviceRates], by order: TopOrder, _ names: [String: String], _ history: inout RateHistory?
    ) -> [String] {
        if rates.isEmpty { return [] }
        var rows = [[heading, "name"] + columns.map(\.heading) + (history == nil ? [] : ["rate"])]
        for device in sorted(rates, by: order) {
            let line = history?.note(device.subject, device.perSecond(moved))
            rows.append(
                [device.subject.device, device.subject.name(in: names)] + columns.map { $0.cell(device) }
                    + (line.map { [$0] } ?? []))
        }
        if rates.count > 1 { rows.append(["all", "\(rates.count)"] + columns.map { $0.total(rates) }) }
        return Table.lines(rows)
    }

    private func sorted(_ rates: [DeviceRates], by order: TopOrder) -> [DeviceRates] {
        let weight: (DeviceRates) -> Double
        switch order {
        case .name: return rates
        case .rate: weight = { $0.perSecond(moved) }
        case .bytes: weight = { $0.perSecond(bytes) }
        case .latency: weight = { Double($0.latency.quantile(0.99) ?? 0) }
        }
        // Those that do as much as one another stay in order of their names.
        return rates.enumerated().sorted { left, right in
            let (of, other) = (weight(left.element), weight(right.element))
            return of == other ? left.offset < right.offset : of > other
        }.map(\.element)
    }
}

/// What devices did lately, as a line of bars.
struct RateHistory {
    private var rates: [DeviceSubject: [Double]] = [:]

    /// Bars of a line.
    private static let length = 16
    private static let bars = Array("▁▂▃▄▅▆▇█")

    /// Adds a rate, and draws all that are kept, the latest last, each beside the greatest of them.
    mutating func note(_ device: DeviceSubject, _ rate: Double) -> String {
        var all = rates[device] ?? []
        all.append(rate)
        if all.count > Self.length { all.removeFirst() }
        rates[device] = all
        let greatest = max(all.max() ?? 0, 1)
        return String(all.map { Self.bars[min(Self.bars.count - 1, Int($0 / greatest * Double(Self.bars.count)))] })
    }
}

extension DeviceSubject {
    /// What people call it: its guest's name, and the disk's name there or the interface's number.
    func name(in guests: [String: String]) -> String {
        "\(guests[domain] ?? domain)/\(vdev)"
    }
}
