// causeway status: what is in use on a host; every number returns to where it was when a guest is gone.

import ArgumentParser
import HypervisorCore

struct Status: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Shows what each domain of a host holds: grants, mappings, ports, store nodes, watches, descriptors.")

    @OptionGroup var host: HostOptions
    @Flag(help: "One line of JSON instead of a table.") var json = false

    func run() throws {
        let usages = try Rooms.usage(of: try host.directory()).map { usage in
            (name: usage.domain.map(\.description) ?? "host", counters: Self.counters(usage))
        }
        if json {
            let objects = usages.map { name, counters in
                let fields = counters.map { "\"\($0.name)\": \($0.count)" }.joined(separator: ", ")
                return "{\"domain\": \"\(name)\", \(fields)}"
            }
            return printLine("{\"usage\": [\(objects.joined(separator: ", "))]}")
        }
        let heading = ["Domain"] + (usages.first?.counters.map(\.name) ?? [])
        for line in Table.lines([heading] + usages.map { [$0.name] + $0.counters.map { "\($0.count)" } }) {
            printLine(line)
        }
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
