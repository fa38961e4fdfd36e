// causeway pair: the main job. A host, a backend and a frontend for each disk as separate processes, and COMMAND among
// them.

import ArgumentParser
import BlockDevices
import CommandSupport
import Confinement
import Glibc
import LinuxSystem
import Toolstack

struct Pair: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Connects disks and network interfaces through a frontend and a backend process, and runs COMMAND with them.",
        discussion: """
            SPEC is xl's: disk.img,raw,xvda,w or /dev/loop0,,xvdb,r; the target may be an NBD URI,
            null:SIZE, nvme:ADDRESS or rbd:POOL/IMAGE.
            A vif's SPEC is xl's, too: mac=00:16:3e:01:02:03,bridge=br0. Its backend's side is a tap here, its frontend's a tap in a network
            namespace of its own: CAUSEWAY_TAP_BACK_<n>, CAUSEWAY_TAP_FRONT_<n>, CAUSEWAY_NETNS_<n>.
            mac=00:16:3e:01:02:03,peer=00:16:3e:01:02:04 makes two interfaces with these addresses and a cable between them through the
            backend: two namespaces, no tap here.
            With front=vhost-user a disk is a virtio driver's, or an interface, or the other end of a cable: CAUSEWAY_VHOST_<vdev>,
            CAUSEWAY_VHOST_<n>, and in $qemu the arguments that give QEMU all of them; its memory has to be shared (see `export`).
            COMMAND sees CAUSEWAY_RUN_DIR, XENSTORED_PATH, CAUSEWAY_NBD_<vdev> for each disk, and $uri for the first: NBD URIs.
            Its exit status is the command's. Without COMMAND, the pair runs until interrupted.
            """)

    @OptionGroup var host: HostOptions
    @OptionGroup var features: BlockFeatures
    @OptionGroup var vifFeatures: VifFeatures
    @OptionGroup var threads: ReactorOptions
    @OptionGroup var confinement: ConfinementOptions
    @OptionGroup var user: UserOptions
    @Option(name: .customLong("vif"), help: ArgumentHelp("A network interface.", valueName: "spec")) var vifs: [String] = []
    @Option(name: .customLong("disk"), help: ArgumentHelp("A disk.", valueName: "spec")) var disks: [String] = []
    @Option(help: "Where the host's machine frames are scattered to.") var machineSeed: UInt64 = 1
    @Flag(help: "Keeps journals: a backend that was killed goes on with the same rings, and no frontend notices.") var journal =
        false
    @Option(
        help: ArgumentHelp(
            "A backend in the place of Causeway's, run as domain 0 as xen-run does, and again when it ends.",
            discussion: "QEMU's serves disks of backendtype=qdisk, in any of its formats; the first disk's domain is 1.",
            valueName: "command"))
    var backendCommand: String?
    @Option(help: "How long a disk may take to connect, in seconds.") var timeout = 15
    @OptionGroup var loudness: QuietOption
    @Flag(help: TakeOver.help) var takeOver = false
    @Argument(parsing: .postTerminator, help: "What to run, after --.") var command: [String] = []

    func validate() throws {
        guard !disks.isEmpty || !vifs.isEmpty else { throw ValidationError("give at least one --disk or --vif") }
        guard backendCommand == nil || !(disks + vifs).contains(where: { $0.contains("front=vhost-user") }) else {
            throw ValidationError("--backend-command: only Causeway's own backend serves front=vhost-user")
        }
        guard backendCommand == nil || !journal else { throw ValidationError("--journal: another backend keeps its own, if any") }
        guard (1...3600).contains(timeout) else { throw ValidationError("--timeout: 1 to 3600, not \(timeout)") }
    }

    func run() throws {
        let specifications = try disks.map { try parseDisk($0, anyBackend: backendCommand != nil) { loudness.note($0) } }
        for (index, disk) in specifications.enumerated() {
            if specifications[..<index].contains(where: { $0.vdev.number == disk.vdev.number }) {
                throw Failure.usage("--disk: \(disk.vdev): given twice")
            }
            guard disk.backend == nil || disk.backend == "0" || disk.backend == "Domain-0" else {
                throw Failure.usage("--disk: \(disk.vdev): backend: a pair serves its disks from domain 0")
            }
        }
        let interfaces = try vifs.map { try parseVif($0) }
        for (index, vif) in interfaces.enumerated() {
            if let name = vif.name, interfaces[..<index].contains(where: { $0.name == name }) {
                throw Failure.usage("--vif: vifname: \(name): given twice")
            }
            guard vif.backend == nil || vif.backend == "0" || vif.backend == "Domain-0" else {
                throw Failure.usage("--vif: backend: a pair serves its interfaces from domain 0")
            }
            try expectVLANs(vif)
            if case .device = vif.peer {
                throw Failure.usage("--vif: peer: the address of the interface at the other end, which is made, too")
            }
        }
        if let program = command.first { try Program.check(program) }
        // Before anything else: whatever is started inherits it, and a signal from now on is taken where it can be
        // answered.
        Signals.block(Signals.termination + [SIGCHLD])
        let servesVhostUser =
            specifications.contains { $0.front == .vhostUser } || interfaces.contains { $0.front == .vhostUser }
        let drivesControllers = specifications.contains { disk in
            if case .nvme? = try? DeviceTarget(disk.target) { true } else { false }
        }
        let plan = PairPlan(
            features: features, vifFeatures: vifFeatures, threads: threads, connectTimeout: timeout * 1000, loudness: loudness,
            confinement: confinement, users: geteuid() == 0 ? user.range ?? .standard : nil, machineSeed: machineSeed,
            keepsJournals: journal, takesOver: takeOver, backendCommand: backendCommand,
            servesVhostUser: servesVhostUser, keepsDescriptors: servesVhostUser || drivesControllers && backendCommand == nil)
        let ending = try EndRequests()
        let directory = try PairDirectory(given: host.givenDirectory.map { try RunDirectory($0) })
        let session = PairSession(directory: directory, plan: plan, ending: ending)
        throw Failure.silent(session.run(specifications, interfaces, command: command))
    }
}
