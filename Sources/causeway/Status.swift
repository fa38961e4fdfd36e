// causeway status: what is in use on a host; every number returns to where it was when a guest is gone.

import ArgumentParser

struct Status: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Shows what each domain of a host holds: grants, mappings, ports.")

    @OptionGroup var host: HostOptions
    @Flag(help: "One line of JSON instead of a table.") var json = false

    func run() throws {
        let counters = try Rooms.counters(of: try host.directory())
        if json {
            let fields = counters.map { "{\"domain\": \($0.domain), \"name\": \"\($0.name)\", \"count\": \($0.count)}" }
            return printLine("{\"counters\": [\(fields.joined(separator: ", "))]}")
        }
        let rows = counters.map { ["\($0.domain)", $0.name, "\($0.count)"] }
        for line in Table.lines([["Domain", "Counter", "Count"]] + rows) { printLine(line) }
    }
}

/// One counter of one domain.
struct Counter {
    var domain: UInt16
    var name: String
    var count: Int
}
