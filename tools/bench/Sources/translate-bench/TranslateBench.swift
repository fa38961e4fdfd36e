// Nanoseconds of the translation library's operations, beside a flat array, glibc's tsearch and C++'s std::map in the
// same run; one table. `translate-bench [--json] [lookups|spaces|tables|transfers]`.

@main struct TranslateBench {
    static func main() throws {
        let arguments = CommandLine.arguments.dropFirst()
        let json = arguments.contains("--json")
        let wanted = arguments.first { !$0.hasPrefix("-") }
        var rows: [Row] = []
        if !json { Report.heading() }
        func add(_ name: String, _ part: () throws -> [Row]) rethrows {
            guard wanted == nil || wanted == name else { return }
            let more = try part()
            if !json { for row in more { Report.line(row) } }
            rows += more
        }
        for (count, name, target) in [(1 << 10, "1k", 2), (100_000, "100k", 2.5), (1 << 20, "1M", 4)] {
            try add("lookups") { try Lookups.run(count, name, target) }
        }
        try add("spaces", Spaces.addresses)
        try add("tables", Spaces.tables)
        try add("transfers", Transfers.run)
        if json { Report.json(rows) }
    }
}
