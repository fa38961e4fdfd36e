// causeway export: disks and interfaces for programs that speak vhost-user, such as QEMU, without a Xen world.

import ArgumentParser
import BlockDevices
import CommandSupport
import DeviceControl
import Glibc
import LinuxSystem
import Toolstack
import VhostUser

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
            With --client front ends listen, as DPDK's and QEMU's server=on do, and each socket is gone to as soon as somebody does.
            The exit status is COMMAND's. Without COMMAND it serves until interrupted. `causeway upgrade` has it go on as another build.
            """)

    @OptionGroup var loudness: QuietOption
    @OptionGroup var threads: ReactorOptions
    @Option(name: .customLong("disk"), help: ArgumentHelp("A disk.", valueName: "spec")) var disks: [String] = []
    @Option(name: .customLong("vif"), help: ArgumentHelp("A network interface.", valueName: "spec")) var vifs: [String] = []
    @Option(help: ArgumentHelp("The one device's socket.", valueName: "path")) var socket: String?
    @Option(
        help: ArgumentHelp(
            "The one device's socket, open already: it listens, or a front end is at its other end.",
            discussion: "With that front end it ends.", valueName: "number"))
    var fd: Int32?
    @Option(
        help: ArgumentHelp("Where sockets are made, by the devices' names; a directory of its own by default.", valueName: "dir"))
    var socketDir: String?
    @Option(name: .customLong(String(Self.resumeOption.dropFirst(2))), help: .hidden) var resume: String?
    @Option(name: .customLong(String(Self.keptOption.dropFirst(2))), help: .hidden) var keptIn: String?
    @Flag(name: .customLong(String(SuccessorProgram.formatOption.dropFirst(2))), help: .hidden) var saysFormat = false
    @Option(
        help: ArgumentHelp(
            "Queues of a device at most; a driver uses as many as it likes.",
            discussion: "Default: of a disk one for each thread, of an interface one."))
    var queues: Int?

    @Flag(
        help: ArgumentHelp(
            "Takes memory that cannot be sealed against becoming shorter, as DPDK's.",
            discussion:
                "A front end that makes its memory shorter loses its connection; of huge pages it ends this process, and all other devices."
        ))
    var trustMemory = false

    @Flag(
        help: ArgumentHelp(
            "Front ends notice a pause at most when the process that serves them is killed.",
            discussion: "A second process does that, and another in its place when it ends; this one keeps what they need."))
    var keep = false

    @Flag(
        help: ArgumentHelp(
            "Front ends listen, and this goes to them.",
            discussion: "To each device's socket, as soon as somebody listens there, and again whenever he has gone."))
    var client = false

    /// What a program is given that takes another's place.
    static let resumeOption = "--resume"
    /// What the process is given that serves while another keeps its descriptors: where sockets are.
    static let keptOption = "--kept-in"

    func validate() throws {
        if saysFormat { return }
        guard !disks.isEmpty || !vifs.isEmpty else { throw ValidationError("give at least one --disk or --vif") }
        let named = fd == nil ? "--socket" : "--fd"
        guard socket == nil && fd == nil || disks.count + vifs.count == 1 else {
            throw ValidationError("\(named): for one device; --socket-dir is for several")
        }
        if fd != nil {
            guard !keep, !client, socket == nil else {
                throw ValidationError("--fd: the socket is there; it goes with none of --keep, --client and --socket")
            }
            guard command.isEmpty else { throw ValidationError("--fd: whoever opened it has the front end; no COMMAND is run") }
        }
        guard !keep || !client else { throw ValidationError("--keep: front ends that listen (--client) are gone to again anyhow") }
        guard socket == nil || socketDir == nil else { throw ValidationError("--socket and --socket-dir: one of them") }
        if let queues, !(1...256).contains(queues) { throw ValidationError("--queues: 1 to 256, not \(queues)") }
    }

    func run() throws {
        if saysFormat { return printLine("\(ExportSuccession.format)") }
        // Before anything of this process's own can have that number. A predecessor has taken it out and hands it on.
        let given = resume == nil ? try fd.map { (fd) throws(Failure) in try ExportPlace(inherited: fd) } : nil
        let specifications = try disks.map { try parseDisk($0) { loudness.note($0) } }
        for (index, disk) in specifications.enumerated()
        where specifications[..<index].contains(where: { $0.vdev.number == disk.vdev.number }) {
            throw Failure.usage("--disk: \(disk.vdev): given twice")
        }
        if let disk = specifications.first(where: { $0.front == .xen }) {
            throw Failure.usage("--disk: \(disk.vdev): front: export has no frontends of Xen's")
        }
        if keep { try specifications.forEach(expectKeepable) }
        let interfaces = try ExportedVif.plans(vifs)
        guard socket == nil && fd == nil || interfaces.count < 2 else {
            throw Failure.usage("\(fd == nil ? "--socket" : "--fd"): a cable has two ends; --socket-dir is for both")
        }
        if let program = command.first { try Program.check(program) }
        Signals.block(Signals.termination + [SIGCHLD])
        if keep, keptIn == nil {
            let directory = try PairDirectory(given: try socketDir.map { try RunDirectory($0) }, for: "export")
            var keeper = ExportKeeper(in: directory, command)
            throw Failure.silent(try keeper.run())
        }
        let keeper = try keptIn.map { _ throws(Failure) in try KeeperLink(for: "export") }
        let left = try resume.map { (path) throws(Failure) in try ExportSuccession(takenFrom: path) }
        var session = try ExportSession(
            in: try directory(left), reactors: threads.count, polling: .adaptive(microseconds: 50), trustsMemory: trustMemory,
            isClient: client, keeper: keeper)
        var predecessor = ExportPredecessor(left, keeper, devices: specifications.count + interfaces.count)
        try add(specifications, interfaces, at: given, &session, &predecessor)
        let upgrade = ExportUpgrade(
            at: socket.map(ExportUpgrade.path(beside:)) ?? ExportUpgrade.path(in: session.directory.run.path), session.directory,
            session.served, keeper: keeper, obstacle: obstacle(session))
        defer { upgrade.close() }
        let control = control(of: session)
        defer { control?.close() }
        predecessor.finish(variables(of: session, upgrade))
        throw Failure.silent(try serve(session, upgrade, left?.command))
    }

    /// A write that a killed process has sent to an NBD server may be done there at any time, also after newer ones.
    private func expectKeepable(_ disk: DiskSpecification) throws(Failure) {
        guard !disk.isReadOnly, case .nbd? = try? DeviceTarget(disk.target) else { return }
        throw .usage("--keep: \(disk.vdev): \(KeptDevice.whyNoWritableNBD)")
    }

    private func directory(_ left: ExportSuccession?) throws(Failure) -> PairDirectory {
        if let keptIn { return try PairDirectory(of: keptIn) }
        if let left { return try PairDirectory(resuming: left.directory, isPrivate: left.isPrivate, for: "export") }
        let given: RunDirectory?
        if let socketDir { given = try RunDirectory(socketDir) } else { given = nil }
        return try PairDirectory(given: given, for: "export")
    }

    /// Has every device served: gone on with where a predecessor has left it, else anew.
    private func add(
        _ specifications: [DiskSpecification], _ interfaces: [ExportedVif.Plan], at given: ExportPlace?,
        _ session: inout ExportSession,
        _ predecessor: inout ExportPredecessor
    ) throws(Failure) {
        for disk in specifications {
            try predecessor.resume("\(disk.vdev)") { (left, began) throws(Failure) in
                try session.resume(disk, left, queues: queues ?? threads.count, began: began)
            } anew: { () throws(Failure) in
                let place = given ?? place(of: "\(disk.vdev)", session)
                let way = session.way(to: place)
                try session.add(disk, at: place, queues: queues ?? threads.count)
                loudness.say("\(disk.vdev): \(disk.target) \(disk.isReadOnly ? "read-only" : "read-write"), \(way)")
            }
        }
        for (index, plan) in interfaces.enumerated() {
            try predecessor.resume(ExportedVif.name(index)) { (left, began) throws(Failure) in
                try session.resume(plan, left, queues: queues ?? 1, reactors: threads.count, loudness, began: began)
            } anew: { () throws(Failure) in
                let place = given ?? place(of: "vif\(index)", session)
                try session.add(plan, at: place, queues: queues ?? 1, reactors: threads.count, loudness)
            }
        }
    }

    /// Why no other program can go on with it.
    private func obstacle(_ session: borrowing ExportSession) -> String? {
        if client { return "it goes to its front ends (--client), and they come back to nobody; start it anew" }
        if fd != nil, session.served.isEmpty { return "its only front end has the socket of --fd; start both anew" }
        return nil
    }

    /// Where a device and its front ends meet.
    private func place(of name: String, _ session: borrowing ExportSession) -> ExportPlace {
        .path(socket ?? session.directory.socket(of: name))
    }

    /// Where `causeway device` finds the devices.
    private func control(of session: borrowing ExportSession) -> DeviceSocket? {
        let devices: [any ControlledDevice] = session.disks.map(\.control) + session.vifs.map(\.control)
        let run = session.directory.run
        let control = DeviceSocket(in: run.path) { devices }
        if control == nil { complain("export: \(run): no socket can be made there for `causeway device`") }
        return control
    }

    /// What COMMAND sees.
    private func variables(of session: borrowing ExportSession, _ upgrade: ExportUpgrade) -> [String: String] {
        var variables = ["qemu": session.qemuArguments]
        variables[Upgrade.variable] = upgrade.path
        variables["CAUSEWAY_RUN_DIR"] = session.directory.run.path
        for disk in session.disks { variables[disk.variable] = disk.place.path }
        for vif in session.vifs { variables.merge(vif.variables) { _, new in new } }
        return variables
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
            child = try ChildProcess.startProgram(command, adding: variables(of: session, upgrade), ownGroup: isatty(0) == 0)
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
        let ofDisks = disks.enumerated().map { QemuArguments.disk($0, at: $1.place.path, isClient ? .waits : .comes) }
        return (ofDisks + vifs.map(\.qemuArguments)).joined(separator: " ")
    }

    /// How front ends come to a device, in words.
    func way(to place: ExportPlace) -> String {
        switch place {
        case .path(let path): isClient ? "vhost-user to \(path)" : "vhost-user at \(path)"
        case .listener(let socket): "vhost-user at descriptor \(socket.rawValue)"
        case .frontend(let socket): "vhost-user to descriptor \(socket.rawValue)"
        }
    }
}
