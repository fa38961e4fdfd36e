// causeway backend: serves the disks and network interfaces of one domain.

import ArgumentParser
import XenWire

struct Backend: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Serves every disk and interface whose backend is this domain, hot-plugged ones too, until interrupted.")

    @OptionGroup var host: HostOptions
    @OptionGroup var features: BlockFeatures
    @OptionGroup var vifFeatures: VifFeatures
    @Option(help: "The domain that this backend acts in.") var domain: UInt16 = 0
    @Flag(help: "Opens disks with O_DIRECT, even those that do not say direct-io-safe.") var direct = false
    @Flag(help: "Stands on this host's Xen; the domain is the one that this process runs in.") var xen = false
    @Flag(help: .hidden) var memoryVifs = false
    @Option(
        help: ArgumentHelp(
            "The directory below backend/ that is served: vbd, vbd3, qdisk or another.", valueName: "kind"))
    var backendKind = "vbd"
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
    @Flag(help: "Keeps no journal: a successor asks every frontend to connect again.") var noJournal = false

    enum ScriptPolicy: String, ExpressibleByArgument, CaseIterable { case wait, ignore }

    func validate() throws {
        // It becomes part of store paths.
        let isName =
            !backendKind.isEmpty && backendKind.utf8.count <= 32
            && backendKind.utf8.allSatisfy { byte in
                (0x61...0x7A).contains(byte) || (0x41...0x5A).contains(byte) || (0x30...0x39).contains(byte)
                    || byte == 0x2D || byte == 0x5F
            }
        guard isName else { throw ValidationError("--backend-kind: `\(backendKind)` is no directory's name") }
    }

    func run() throws {
        try host.followParent()
        var options = features.backendOptions
        options.direct = direct
        options.kind = backendKind == "vbd" ? .block : .named(backendKind)
        options.waitsForScript = scripts == .wait
        options.journalDirectory = noJournal ? nil : journal ?? (xen ? "/run/causeway" : nil)
        if xen {
            try Rooms.serveXenBackend(options: options, network: vifFeatures.backendOptions, scripts: scripts.map { $0 == .wait })
        } else {
            try Rooms.serveBackend(
                in: try host.directory(), domain: DomainID(domain), options: options, network: vifFeatures.backendOptions,
                openVif: memoryVifs ? NetworkOpening.openMemory : NetworkOpening.open)
        }
    }
}
