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
    @Flag(help: "Stands on this host's Xen instead of a loopback host.") var xen = false

    func run() throws {
        guard !xen else { throw Failure("backend: --xen: this build serves loopback hosts only") }
        try host.followParent()
        var options = features.backendOptions
        options.direct = direct
        try Rooms.serveBackend(in: try host.directory(), domain: DomainID(domain), options: options, network: vifFeatures.backendOptions)
    }
}
