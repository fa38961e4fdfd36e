// causeway status: what is in use on a host; every number returns to where it was when a guest is gone.

import ArgumentParser
import HypervisorCore

struct Status: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Shows what each domain of a host holds: grants, mappings, ports.")

    @OptionGroup var host: HostOptions
    @Flag(help: "One line of JSON instead of a table.") var json = false

    func run() throws {
        let usages = try Rooms.usage(of: try host.directory()).map { domain, usage in
            (name: domain.map(\.description) ?? "host", counters: Self.counters(usage))
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
    private static func counters(_ usage: HypervisorUsage) -> [(name: String, count: Int)] {
        [
            ("domains", usage.domains), ("grants", usage.grants), ("mappings", usage.mappings), ("ports", usage.ports),
            ("runs", usage.runs), ("pages", usage.pages), ("deferred", usage.deferred), ("dying", usage.dying),
        ]
    }
}
