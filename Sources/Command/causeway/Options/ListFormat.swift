// How a command that lists prints: columns for people, or JSON.

import ArgumentParser
import CommandSupport

/// A table, or one line of JSON: an array with an object for each row.
struct ListFormat: ParsableArguments {
    @Flag(help: "One line of JSON instead of a table.") var json = false

    /// Prints rows under their headings, which are the names of JSON, too: in lower case, `-` between words.
    /// - Parameter table: the lines for people, where they are not simply columns.
    func show(_ headings: [String], _ rows: [[String]], table: () -> [String]? = { nil }) {
        guard json else {
            for line in table() ?? Table.lines([headings] + rows) { printLine(line) }
            return
        }
        let names = headings.map { $0.lowercased().replacing(" ", with: "-") }
        printJSON(rows.map { JSONValue.object(Dictionary(zip(names, $0.map { JSONValue($0) })) { $1 }) })
    }
}
