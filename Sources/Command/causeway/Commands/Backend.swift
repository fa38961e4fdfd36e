// causeway backend: serves the disks and network interfaces of one domain.

import ArgumentParser
import CommandSupport
import XenBus
import XenTypes

struct Backend: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Serves every disk and interface whose backend is this domain, hot-plugged ones too, until interrupted.")

    @OptionGroup var host: HostOptions
    @OptionGroup var loudness: QuietOption
    @OptionGroup var confinement: ConfinementOptions
    @OptionGroup var features: BlockFeatures
    @OptionGroup var vifFeatures: VifFeatures
    @OptionGroup var threads: ReactorOptions
    @Option(help: "The domain that this backend acts in.") var domain: UInt16 = 0
    @Flag(help: "Opens disks with O_DIRECT, even those that do not say direct-io-safe.") var direct = false
    @Flag(help: "Stands on this host's Xen; the domain is the one that this process runs in.") var xen = false
    @Flag(help: .hidden) var memoryVifs = false
    /// Given by `pair`, which reads the error nodes of what it attaches.
    @Flag(help: .hidden) var attachErrorsInStore = false
    @Option(
        help: ArgumentHelp(
            "The directory below backend/ whose disks are served: vbd, vbd3, qdisk or another; none: no disks.", valueName: "kind"))
    var backendKind = "vbd"
    @Option(
        help: ArgumentHelp(
            "The directory below backend/ whose network interfaces are served; none: no interfaces.", valueName: "kind"))
    var vifKind = "vif"
    @Option(
        help:
            "Hot-plug scripts: wait until a device's has run, or ignore them. On Xen, dom0 waits and other domains ignore."
    )
    var scripts: ScriptPolicy?

    @Option(
        help: ArgumentHelp(
            "A directory in memory that lets a successor of this process go on with the same rings; on Xen /run/causeway.",
            valueName: "dir"))
    var journal: String?
    @Option(
        name: .customLong("vhost-user"),
        help: ArgumentHelp(
            "Serves every device over vhost-user, too, at DIR/<domain>-<device>.sock.",
            discussion: "A device is whoever's comes first; the other is told that it is busy.", valueName: "dir"))
    var vhostUser: String?
    @Flag(name: .customLong(String(SuccessorProgram.formatOption.dropFirst(2))), help: .hidden) var saysFormat = false
    @Option(name: .customLong(String(Export.resumeOption.dropFirst(2))), help: .hidden) var resume: String?
    /// Given by `pair`, which is at the other end of descriptor 3.
    @Flag(help: .hidden) var kept = false
    @Flag(help: TakeOver.help) var takeOver = false
    @Flag(help: "Keeps no journal: a successor asks every frontend to connect again.") var noJournal = false

    enum ScriptPolicy: String, ExpressibleByArgument, CaseIterable { case wait, ignore }

    func validate() throws {
        // They become part of store paths.
        for (option, kind) in [("--backend-kind", backendKind), ("--vif-kind", vifKind)] {
            let isName =
                !kind.isEmpty && kind.utf8.count <= 32
                && kind.utf8.allSatisfy { byte in
                    (0x61...0x7A).contains(byte) || (0x41...0x5A).contains(byte) || (0x30...0x39).contains(byte)
                        || byte == 0x2D || byte == 0x5F
                }
            guard isName else { throw ValidationError("\(option): `\(kind)` is no directory's name") }
        }
        if backendKind == "none", vifKind == "none" { throw ValidationError("neither disks nor interfaces are to be served") }
        if backendKind == vifKind { throw ValidationError("--vif-kind: `\(vifKind)` is the disks' directory") }
    }

    func run() throws {
        if saysFormat { return printLine("\(BackendUpgrade.format)") }
        try host.followParent()
        // On Xen it gives up what it does not need once it knows where it is.
        let confined = xen ? nil : try confinement.confine(.backend)
        // A spare one waits here for its turn, and has touched nothing.
        let keeper = try kept ? KeeperLink(for: "backend") : nil
        var work = BackendWork(disks: features.backendOptions, interfaces: vifFeatures.backendOptions)
        work.tellNotes()
        work.confined = confined
        work.leaveAttachErrors(attachErrorsInStore)
        work.interfaces.dma = features.memory.options
        work.useReactors(threads.count)
        work.disks.direct = direct
        work.disks.kind = DeviceKind(backendKind)
        work.interfaces.kind = DeviceKind(vifKind)
        work.servesDisks = backendKind != "none"
        work.servesInterfaces = vifKind != "none"
        work.memoryVifs = memoryVifs
        work.left = resume
        work.keeper = keeper
        work.takesOver = takeOver
        work.vhostDirectory = try vhostUser.map { try RunDirectory($0).path }
        work.waitForScripts(scripts == .wait)
        work.keepJournals(in: noJournal ? nil : journal ?? (xen ? "/run/causeway" : nil))
        if xen {
            if features.polling == nil { work.disks.polling = .inDomain }
            if vifFeatures.vifPolling == nil { work.interfaces.polling = .inDomain }
            try BackendRole.serveXen(
                work, scripts: scripts.map { $0 == .wait }, runDirectory: host.givenDirectory ?? "/run/causeway")
        } else {
            try BackendRole.serve(in: try host.directory(), domain: DomainID(domain), work)
        }
    }
}
