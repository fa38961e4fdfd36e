// causeway host: the loopback hypervisor and the xenstore daemon.

import ArgumentParser
import CommandSupport
import LinuxSystem

struct Host: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Runs the loopback hypervisor and its xenstore daemon, until interrupted.",
        discussion: "The stock tools work against it: XENSTORED_PATH=DIR/xenstored.sock xenstore-ls")

    @OptionGroup var host: HostOptions
    @OptionGroup var loudness: QuietOption
    @OptionGroup var confinement: ConfinementOptions
    @Option(help: "Where machine frames are scattered to: another seed, other frames behind every page.") var machineSeed: UInt64 =
        1

    func run() throws {
        try host.followParent()
        let directory = try host.directory()
        do throws(Errno) { try FileSystem.requireDirectories(directory.path, mode: 0o755) } catch {
            throw Failure("host: \(directory): cannot make this directory: \(error)")
        }
        let confined = try confinement.confine(.host)
        try HostRole.serve(in: directory, machineSeed: machineSeed) { if let confined { loudness.note(confined) } }
    }
}
