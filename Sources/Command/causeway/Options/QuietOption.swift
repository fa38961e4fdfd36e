// How much a command says.

import ArgumentParser
import CommandSupport
import Logging

/// Whether more than errors is printed, and what the log has.
struct QuietOption: ParsableArguments {
    @Flag(name: .shortAndLong, help: "Prints nothing but what is wrong.") var quiet = false
    @Option(
        help: ArgumentHelp(
            "The least that standard error gets: debug, info, notice, warning, error or critical.",
            discussion: "Default: info; with --quiet, warning.", valueName: "level"))
    var logLevel: Logger.Level?

    func validate() throws { Log.tell(from: logLevel ?? (quiet ? .warning : .info)) }

    /// The same, for a process that is started with it.
    var arguments: [String] { (quiet ? ["--quiet"] : []) + (logLevel.map { ["--log-level", $0.rawValue] } ?? []) }

    /// One line on stdout.
    func say(_ line: String) { if !quiet { printLine(line) } }
    /// One line on stderr that is no error.
    func note(_ line: String) { CommandSupport.note(line) }
}

extension Logger.Level: @retroactive ExpressibleByArgument {}
