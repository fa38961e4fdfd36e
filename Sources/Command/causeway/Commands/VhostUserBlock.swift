// causeway vhost-user-blk: one disk, with the options that QEMU's interface for vhost-user programs gives every program
// of that kind, so that management software finds and starts it like any other. It becomes `causeway export`.

import ArgumentParser
import CommandSupport
import LinuxSystem

struct VhostUserBlock: ParsableCommand {
    /// The subcommand, and the name that the program may have in its place.
    static let name = "vhost-user-blk"

    private static let capabilities = "--print-capabilities"

    /// A command line's arguments, with the subcommand first that the program's own name stands for. What is asked for
    /// the capabilities is asked for nothing else, be it known or not.
    static func arguments(of line: [String]) -> [String] {
        let program = line.first?.split(separator: "/").last.map(String.init)
        let arguments = (program == name ? [name] : []) + line.dropFirst()
        return arguments.first == name && arguments.contains(capabilities) ? [name, capabilities] : arguments
    }

    static let configuration = CommandConfiguration(
        commandName: name,
        abstract: "Serves one disk over vhost-user, with the options that QEMU's documentation gives such programs.",
        discussion: """
            Management software finds it by /usr/share/qemu/vhost-user/50-causeway-blk.json, as the program vhost-user-blk. It is `export` \
            with one disk of raw bytes; a block device, a file or an NBD URI will do.
            """)

    @Option(help: ArgumentHelp("Where it listens.", valueName: "path")) var socketPath: String?
    @Option(
        help: ArgumentHelp(
            "A socket that is open already: it listens, or a front end is at its other end.", valueName: "number"))
    var fd: Int32?
    @Option(help: ArgumentHelp("The disk.", valueName: "path")) var blkFile: String?
    @Flag(help: "The guest may only read it.") var readOnly = false
    @Flag(help: "Prints what it can, in JSON, whatever else is given.") var printCapabilities = false

    func validate() throws {
        if printCapabilities { return }
        guard (socketPath == nil) != (fd == nil) else { throw ValidationError("give one of --socket-path and --fd") }
        guard blkFile != nil else { throw ValidationError("give --blk-file: the disk") }
    }

    func run() throws {
        if printCapabilities { return printLine(#"{"type": "block", "features": ["read-only", "blk-file"]}"#) }
        let program = try Executable.path()
        throw Failure(
            "\(Self.name): \(program): \(ChildProcess.succeed(program: program, arguments: exportArguments, keeping: []))")
    }

    private var exportArguments: [String] {
        // What is behind `target=` is taken as it is.
        let disk = "format=raw,vdev=xvda,access=\(readOnly ? "ro" : "rw"),target=\(blkFile ?? "")"
        let place = socketPath.map { ["--socket", $0] } ?? ["--fd", "\(fd ?? -1)"]
        return ["causeway", "export"] + place + ["--disk", disk]
    }
}
