// The command's root: parses, wires the parts together, prints. Each subcommand is a file of its own.

import ArgumentParser
import CommandSupport
import Glibc
import LinuxSystem

struct Causeway: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "causeway",
        abstract: "Xen-style split drivers in user space: a frontend and a backend as separate processes.",
        discussion: """
            Try:  truncate -s 64M disk.img
                  causeway pair --disk disk.img,raw,xvda,w -- sh -c 'qemu-img info "$uri"'
            """,
        version: "causeway \(causewayVersion)",
        subcommands: [
            Pair.self, Export.self, VhostUserBlock.self, Upgrade.self, Host.self, Backend.self, Frontend.self, BlockAttach.self,
            BlockList.self,
            BlockDetach.self,
            NetworkAttach.self, NetworkList.self, NetworkDetach.self, VifKeeper.self,
            DomainCreate.self, DomainDestroy.self, XenRun.self, List.self, Device.self, Fault.self, Ring.self, Status.self,
            Top.self,
            Metrics.self, Trace.self, Translate.self, DMABackEndList.self, ControllerList.self, Bench.self,
        ])
}

/// Exit statuses: 0, 1 (it did not work), 2 (the command line makes no sense).
@main enum Main {
    static func main() {
        Descriptor.openMissingStandard()
        ResourceLimits.raiseOpenFiles()
        Signals.ignoreBrokenPipes()
        Signals.quitQuietly()
        let arguments = VhostUserBlock.arguments(of: CommandLine.arguments)
        do {
            var command = try Causeway.parseAsRoot(arguments)
            try command.run()
            if let failure = StandardOutput.failure { throw failure }
        } catch let failure as Failure {
            if let message = failure.message { Log.write(.error, message) }
            Glibc.exit(failure.status)
        } catch {
            // The parser's own: help, version and completions go to stdout and are no failure.
            var text = Causeway.fullMessage(for: error)
            if Causeway.exitCode(for: error).isSuccess {
                printLine(text)
                if let failure = StandardOutput.failure { complain("\(failure)") }
                Glibc.exit(StandardOutput.failure?.status ?? 0)
            }
            if let option = OptionNames.firstUnknown(in: arguments) {
                let usage = text.firstRange(of: "\nUsage:").map { String(text[$0.lowerBound...]) } ?? ""
                if !text.contains("Unknown option") { text = "Error: Unknown option '\(option)'\(usage)" }
            }
            StandardError.write(text.hasPrefix("Error: ") ? "causeway: \(text.dropFirst("Error: ".count))" : text)
            Glibc.exit(2)
        }
    }
}
