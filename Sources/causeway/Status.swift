// causeway status: what is in use on a host; every number returns to where it was when a guest is gone.

import ArgumentParser
import HypervisorCore

struct Status: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Shows what each domain of a host holds: grants, mappings, ports, store nodes, watches, descriptors.",
        discussion: """
            Below that, for each disk and interface: requests or frames, DMA mappings live and made, pieces bounced by reason (mask, straddle,
            alignment, segments, foreign, sub-granule, untrusted), the bounce pool's fill, the IOTLB's hits and misses, ranges unmapped but
            still within the device's reach (deferred mode), accesses that the IOMMU refused, and transfers that could not be mapped.
            """)

    @OptionGroup var host: HostOptions
    @Flag(help: "One line of JSON instead of a table.") var json = false

    func run() throws {
        let directory = try host.directory()
        let devices = Self.devices(StatusClient.lines(in: directory.path))
        let usages = try Rooms.usage(of: directory).map { usage in
            (name: usage.domain.map(\.description) ?? "host", counters: Self.counters(usage))
        }
        if json {
            let objects = usages.map { name, counters in
                let fields = counters.map { "\"\($0.name)\": \($0.count)" }.joined(separator: ", ")
                return "{\"domain\": \"\(name)\", \(fields)}"
            }
            let objectsOfDevices = devices.map { device, numbers in
                let fields = numbers.map { "\"\($0.name)\": \($0.value)" }.joined(separator: ", ")
                return "{\"device\": \"\(device)\", \(fields)}"
            }
            return printLine(
                "{\"usage\": [\(objects.joined(separator: ", "))], \"devices\": [\(objectsOfDevices.joined(separator: ", "))]}")
        }
        let heading = ["Domain"] + (usages.first?.counters.map(\.name) ?? [])
        for line in Table.lines([heading] + usages.map { [$0.name] + $0.counters.map { "\($0.count)" } }) {
            printLine(line)
        }
        for (device, numbers) in devices {
            printLine("")
            printLine(device)
            // What is 0 in every healthy run is shown all the same: its absence would have to be trusted.
            for line in Table.lines(numbers.map { ["  " + $0.name, "\($0.value)"] }) { printLine(line) }
        }
    }

    /// By device, in the order in which they came.
    private static func devices(_ lines: [StatusLine]) -> [(String, [StatusLine])] {
        var order: [String] = []
        var groups: [String: [StatusLine]] = [:]
        for line in lines {
            if groups[line.subject] == nil { order.append(line.subject) }
            groups[line.subject, default: []].append(line)
        }
        return order.map { ($0, groups[$0] ?? []) }
    }

    /// Without the connections: this command is one of them.
    private static func counters(_ usage: HostUsage) -> [(name: String, count: Int)] {
        let (hypervisor, store) = (usage.hypervisor, usage.store)
        var list = [
            ("domains", hypervisor.domains), ("grants", hypervisor.grants), ("mappings", hypervisor.mappings),
            ("ports", hypervisor.ports), ("runs", hypervisor.runs), ("pages", hypervisor.pages),
            ("deferred", hypervisor.deferred), ("dying", hypervisor.dying), ("nodes", store.nodes), ("watches", store.watches),
            ("transactions", store.transactions),
        ]
        // The daemon's own, so of the host as a whole.
        if usage.domain == nil { list.append(("descriptors", store.descriptors)) }
        return list
    }
}
