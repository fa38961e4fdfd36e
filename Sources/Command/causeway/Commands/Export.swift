// causeway export: disks for programs that speak vhost-user, such as QEMU, without a Xen world.

import ArgumentParser
import CommandSupport
import Glibc
import LinuxSystem
import Toolstack

struct Export: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Serves disks to virtio drivers over vhost-user, each at a socket, and runs COMMAND with them.",
        discussion: """
            SPEC is xl's, as for `pair`. COMMAND sees CAUSEWAY_VHOST_<vdev> for each disk, the socket's path, and $qemu: the arguments that
            give QEMU all of them. QEMU's memory has to be shared:
            causeway export --disk disk.img,raw,xvda,w -- sh -c 'qemu-system-x86_64 -m 1G -object memory-backend-memfd,id=m,size=1G,share=on \
            -numa node,memdev=m $qemu …'
            The exit status is COMMAND's. Without COMMAND it serves until interrupted.
            """)

    @OptionGroup var loudness: QuietOption
    @OptionGroup var threads: ReactorOptions
    @Option(name: .customLong("disk"), help: ArgumentHelp("A disk.", valueName: "spec")) var disks: [String] = []
    @Option(help: ArgumentHelp("The one disk's socket.", valueName: "path")) var socket: String?
    @Option(
        help: ArgumentHelp("Where the sockets are made, by the disks' names; a directory of its own by default.", valueName: "dir"))
    var socketDir: String?
    @Option(help: "Queues of a disk at most; a driver uses as many as it likes.") var queues: Int?

    func validate() throws {
        guard !disks.isEmpty else { throw ValidationError("give at least one --disk") }
        guard socket == nil || disks.count == 1 else {
            throw ValidationError("--socket: for one disk; --socket-dir is for several")
        }
        guard socket == nil || socketDir == nil else { throw ValidationError("--socket and --socket-dir: one of them") }
        if let queues, !(1...256).contains(queues) { throw ValidationError("--queues: 1 to 256, not \(queues)") }
    }

    func run() throws {
        let specifications = try disks.map { try parseDisk($0) { loudness.note($0) } }
        for (index, disk) in specifications.enumerated()
        where specifications[..<index].contains(where: { $0.vdev.number == disk.vdev.number }) {
            throw Failure.usage("--disk: \(disk.vdev): given twice")
        }
        if let program = command.first { try Program.check(program) }
        Signals.block(Signals.termination + [SIGCHLD])
        var session = try ExportSession(
            in: try PairDirectory(given: try socketDir.map { try RunDirectory($0) }, for: "export"), reactors: threads.count,
            polling: .adaptive(microseconds: 50))
        for disk in specifications {
            let path = socket ?? session.directory.socket(of: "\(disk.vdev)")
            try session.add(disk, at: path, queues: queues ?? threads.count, loudness)
            loudness.say("\(disk.vdev): \(disk.target) \(disk.isReadOnly ? "read-only" : "read-write"), vhost-user at \(path)")
        }
        throw Failure.silent(try serve(session))
    }

    @Argument(parsing: .postTerminator, help: "What to run, after --.") var command: [String] = []

    private func serve(_ session: borrowing ExportSession) throws(Failure) -> Int32 {
        guard !command.isEmpty else {
            _ = Signals.waitForever(for: Signals.termination)
            return 0
        }
        var variables = ["qemu": session.qemuArguments]
        for disk in session.disks { variables[disk.variable] = disk.server.path }
        let child = try ChildProcess.startProgram(command, adding: variables, ownGroup: isatty(0) == 0)
        while true {
            if let status = child.reapWithGroup() { return status.shellStatus }
            if let signal = Signals.wait(for: Signals.termination + [SIGCHLD], milliseconds: 1000), signal != SIGCHLD {
                child.signal(signal)
            }
        }
    }
}

extension ExportSession {
    /// What gives QEMU all disks. A shell splits it at blanks, so a socket's path must have none.
    var qemuArguments: String {
        disks.enumerated().map { index, disk in
            // QEMU doubles a comma that is no separator.
            let path = disk.server.path.split(separator: ",", omittingEmptySubsequences: false).joined(separator: ",,")
            return "-chardev socket,id=causeway\(index),path=\(path) -device vhost-user-blk-pci,chardev=causeway\(index)"
        }.joined(separator: " ")
    }
}
