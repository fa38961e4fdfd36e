// The command's root: parses, wires the parts together, prints. Each subcommand is a file of its own.

import ArgumentParser

struct Causeway: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "causeway",
        abstract: "Xen-style split drivers in user space: a frontend and a backend as separate processes.",
        discussion: """
            Try:  truncate -s 64M disk.img
                  causeway pair --disk disk.img,raw,xvda,w -- sh -c 'qemu-img info "$uri"'
            """,
        subcommands: [
            Pair.self, Host.self, Backend.self, Frontend.self, BlockAttach.self, BlockList.self, BlockDetach.self,
            NetworkAttach.self, NetworkList.self, NetworkDetach.self, VifKeeper.self,
            List.self, Status.self, Top.self, Metrics.self, Trace.self, Translate.self, DMABackEndList.self, Bench.self,
        ])
}

/// Exit statuses: 0, 1 (it did not work), 2 (the command line makes no sense).
@main enum Main {
    static func main() {
        Signals.ignoreBrokenPipes()
        do {
            var command = try Causeway.parseAsRoot()
            try command.run()
        } catch let failure as Failure {
            if let message = failure.message { complain(message) }
            exit(with: failure.status)
        } catch {
            // The parser's own: help and completions go to stdout and are no failure.
            let text = Causeway.fullMessage(for: error)
            if Causeway.exitCode(for: error).isSuccess {
                printLine(text)
                exit(with: 0)
            }
            writeLine(text.hasPrefix("Error: ") ? "causeway: \(text.dropFirst("Error: ".count))" : text, to: 2)
            exit(with: 2)
        }
    }
}
