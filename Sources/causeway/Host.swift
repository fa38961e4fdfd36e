// causeway host: the loopback hypervisor and the xenstore daemon.

import ArgumentParser
import FoundationEssentials
import LoopbackHypervisor

struct Host: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Runs the loopback hypervisor and its xenstore daemon, until interrupted.",
        discussion: "The stock tools work against it: XENSTORED_PATH=DIR/xenstored.sock xenstore-ls")

    @OptionGroup var host: HostOptions
    @Option(help: "Where machine frames are scattered to: another seed, other frames behind every page.") var machineSeed: UInt64 = 1

    func run() throws {
        try host.followParent()
        let directory = try host.directory()
        try failing("host: \(directory)") {
            try FileManager.default.createDirectory(
                atPath: directory.path, withIntermediateDirectories: true, attributes: [.posixPermissions: 0o755])
        }
        try Rooms.serveHost(in: directory, machineSeed: machineSeed)
    }
}
