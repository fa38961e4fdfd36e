// -q, for every command that says what it does.

import ArgumentParser
import CommandSupport

struct QuietOption: ParsableArguments {
    @Flag(name: .shortAndLong, help: "Prints nothing but errors.") var quiet = false

    /// The same, for a process that is started with it.
    var arguments: [String] { quiet ? ["--quiet"] : [] }

    /// One line on stdout.
    func say(_ line: String) { if !quiet { printLine(line) } }
    /// One line on stderr that is no error.
    func note(_ line: String) { if !quiet { complain(line) } }
}
