// causeway export: disks and interfaces for programs that speak vhost-user, such as QEMU, without a Xen world.

import ArgumentParser
import CommandSupport
import DeviceControl
import Glibc
import LinuxSystem
import Toolstack

struct Export: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Serves disks and interfaces to virtio drivers over vhost-user, each at a socket, and runs COMMAND with them.",
        discussion: """
            SPEC is xl's, as for `pair`. COMMAND sees CAUSEWAY_VHOST_<vdev> for each disk, the socket's path, and $qemu: the arguments that
            give QEMU all of them. QEMU's memory has to be shared:
            causeway export --disk disk.img,raw,xvda,w -- sh -c 'qemu-system-x86_64 -m 1G -object memory-backend-memfd,id=m,size=1G,share=on \
            -numa node,memdev=m $qemu …'
            A vif's SPEC is xl's, too: mac=00:16:3e:01:02:03,bridge=br0 or vifname=tap0 is a tap here, CAUSEWAY_TAP_BACK_<n>;
            mac=00:16:3e:01:02:03,peer=00:16:3e:01:02:04 makes two interfaces with a cable between them; null has nothing behind it.
            COMMAND sees CAUSEWAY_VHOST_<n> for each.
            The exit status is COMMAND's. Without COMMAND it serves until interrupted. `causeway upgrade` has it go on as another build.
            """)

    @OptionGroup var loudness: QuietOption
    @OptionGroup var threads: ReactorOptions
    @Option(name: .customLong("disk"), help: ArgumentHelp("A disk.", valueName: "spec")) var disks: [String] = []
    @Option(name: .customLong("vif"), help: ArgumentHelp("A network interface.", valueName: "spec")) var vifs: [String] = []
    @Option(help: ArgumentHelp("The one device's socket.", valueName: "path")) var socket: String?
    @Option(
        help: ArgumentHelp("Where sockets are made, by the devices' names; a directory of its own by default.", valueName: "dir"))
    var socketDir: String?
    @Option(name: .customLong(String(Self.resumeOption.dropFirst(2))), help: .hidden) var resume: String?
    @Flag(name: .customLong(String(Self.formatOption.dropFirst(2))), help: .hidden) var saysFormat = false
    @Option(
        help: ArgumentHelp(
            "Queues of a device at most; a driver uses as many as it likes.",
            discussion: "Default: of a disk one for each thread, of an interface one."))
    var queues: Int?

    @Flag(
        help: ArgumentHelp(
            "Takes memory that cannot be sealed against becoming shorter, as DPDK's.",
            discussion: "A front end that makes its memory shorter then ends this process, with all other devices in it."))
    var trustMemory = false

    /// What a program is given that takes another's place.
    static let resumeOption = "--resume"
    /// Asks a program which successions it can go on with.
    static let formatOption = "--succession-format"

    func validate() throws {
        if saysFormat { return }
        guard !disks.isEmpty || !vifs.isEmpty else { throw ValidationError("give at least one --disk or --vif") }
        guard socket == nil || disks.count + vifs.count == 1 else {
            throw ValidationError("--socket: for one device; --socket-dir is for several")
        }
        guard socket == nil || socketDir == nil else { throw ValidationError("--socket and --socket-dir: one of them") }
        if let queues, !(1...256).contains(queues) { throw ValidationError("--queues: 1 to 256, not \(queues)") }
    }

    func run() throws {
        if saysFormat { return printLine("\(ExportSuccession.format)") }
        let specifications = try disks.map { try parseDisk($0) { loudness.note($0) } }
        for (index, disk) in specifications.enumerated()
        where specifications[..<index].contains(where: { $0.vdev.number == disk.vdev.number }) {
            throw Failure.usage("--disk: \(disk.vdev): given twice")
        }
        if let disk = specifications.first(where: { $0.front == .xen }) {
            throw Failure.usage("--disk: \(disk.vdev): front: export has no frontends of Xen's")
        }
        let interfaces = try ExportedVif.plans(vifs)
        guard socket == nil || interfaces.count < 2 else {
            throw Failure.usage("--socket: a cable has two ends; --socket-dir is for both")
        }
        if let program = command.first { try Program.check(program) }
        Signals.block(Signals.termination + [SIGCHLD])
        let left = try resume.map { (path) throws(Failure) in try ExportSuccession(takenFrom: path) }
        let directory =
            try left.map { (left) throws(Failure) in
                try PairDirectory(resuming: left.directory, isPrivate: left.isPrivate, for: "export")
            } ?? PairDirectory(given: try socketDir.map { try RunDirectory($0) }, for: "export")
        var session = try ExportSession(
            in: directory, reactors: threads.count, polling: .adaptive(microseconds: 50),
            trustsMemory: trustMemory)
        if let left { resumeDisks(left, specifications, &session) } else { try addDisks(specifications, &session) }
        for plan in interfaces {
            let path = socket ?? session.directory.socket(of: "vif\(session.vifs.count)")
            try session.add(plan, at: path, queues: queues ?? 1, reactors: threads.count, loudness)
        }
        let upgrade = ExportUpgrade(
            at: socket.map(ExportUpgrade.path(beside:)) ?? ExportUpgrade.path(in: directory.run.path), directory,
            session.disks.map { ("\($0.specification.vdev)", $0.server) }, hasInterfaces: !interfaces.isEmpty)
        defer { upgrade.close() }
        let devices: [any ControlledDevice] = session.disks.map(\.control) + session.vifs.map(\.control)
        let control = DeviceSocket(in: directory.run.path) { devices }
        if control == nil { complain("export: \(directory.run): no socket can be made there for `causeway device`") }
        defer { control?.close() }
        throw Failure.silent(try serve(session, upgrade, left?.command))
    }

    private func addDisks(_ specifications: [DiskSpecification], _ session: inout ExportSession) throws {
        for disk in specifications {
            let path = socket ?? session.directory.socket(of: "\(disk.vdev)")
            try session.add(disk, at: path, queues: queues ?? threads.count, loudness)
            loudness.say("\(disk.vdev): \(disk.target) \(disk.isReadOnly ? "read-only" : "read-write"), vhost-user at \(path)")
        }
    }

    /// Goes on where the program before this one has put the disks by, and says so to whoever asked for it.
    private func resumeDisks(_ left: ExportSuccession, _ specifications: [DiskSpecification], _ session: inout ExportSession) {
        var descriptors = InheritedDescriptors()
        let report = UpgradeReport(disks: left.disks.count, heldAt: left.heldAt, to: descriptors[left.asker])
        for disk in left.disks {
            do throws(Failure) {
                guard let specification = specifications.first(where: { "\($0.vdev)" == disk.vdev }) else {
                    throw Failure("export: \(disk.vdev): is not among the disks any more")
                }
                try session.resume(specification, disk, &descriptors, queues: queues ?? threads.count, loudness) { report.began() }
            } catch {
                complain("\(error)")
                report.began()
            }
        }
    }

    @Argument(parsing: .postTerminator, help: "What to run, after --.") var command: [String] = []

    private func serve(
        _ session: borrowing ExportSession, _ upgrade: ExportUpgrade, _ running: ExportSuccession.Command?
    ) throws(Failure) -> Int32 {
        guard !command.isEmpty else {
            _ = Signals.waitForever(for: Signals.termination)
            return 0
        }
        let child: ChildProcess
        if let running {
            child = ChildProcess(adopting: running.process, leadsGroup: running.leadsGroup, time: .system)
        } else {
            var variables = ["qemu": session.qemuArguments]
            variables[Upgrade.variable] = upgrade.path
            variables["CAUSEWAY_RUN_DIR"] = session.directory.run.path
            for disk in session.disks { variables[disk.variable] = disk.server.path }
            for vif in session.vifs { variables.merge(vif.variables) { _, new in new } }
            child = try ChildProcess.startProgram(command, adding: variables, ownGroup: isatty(0) == 0)
        }
        upgrade.started(child)
        while true {
            if let status = upgrade.whileServing({ child.reapWithGroup() }) { return status.shellStatus }
            if let signal = Signals.wait(for: Signals.termination + [SIGCHLD], milliseconds: 1000), signal != SIGCHLD {
                child.signal(signal)
            }
        }
    }
}

extension ExportSession {
    /// What gives QEMU all devices.
    var qemuArguments: String {
        let ofDisks = disks.enumerated().map { QemuArguments.disk($0, at: $1.server.path) }
        return (ofDisks + vifs.map(\.qemuArguments)).joined(separator: " ")
    }
}
