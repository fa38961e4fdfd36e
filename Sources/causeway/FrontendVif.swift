// causeway frontend vif: an interface as its guest sees it, as a tap, in a namespace if one is named.

import ArgumentParser
import Glibc
import HostDevices
import Hypervisor
import LinuxSystem
import LoopbackHypervisor
import NetworkFrontend
import XenStore
import XenWire

struct FrontendVif: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "vif", abstract: "Connects to a network interface and makes it a tap, until interrupted.",
        discussion: "The tap is gone with this process unless somebody else holds it.")

    @OptionGroup var host: HostOptions
    @OptionGroup var features: VifFeatures
    @OptionGroup var threads: ReactorOptions
    @Argument(help: "The interface's number.") var number: UInt32
    @Option(help: "The tap's name.") var tap: String
    @Option(help: "The network namespace that it lives in: a name of `ip netns`.") var netns: String?
    @Option(help: "The domain that this frontend acts in.") var domain: UInt16 = 1
    @Flag(help: "Stands on this host's Xen; the domain is the one that this process runs in.") var xen = false

    func validate() throws {
        guard !tap.isEmpty, tap.utf8.count <= 15 else { throw ValidationError("--tap: a name of 1 to 15 bytes") }
    }

    func run() throws {
        try host.followParent()
        Signals.block(Signals.termination)
        // Before any thread: each begins in the namespace of the one that starts it.
        if let netns { try NetworkNamespace.enter(netns) }
        var options = features.frontendOptions
        options.reactors = threads.count
        if xen, features.vifPolling == nil { options.polling = .inDomain }
        if xen { return try Rooms.serveXenVif(number: number, tap: tap, options: options) }
        try Rooms.serveVif(
            in: try host.directory(), domain: DomainID(domain), number: number, tap: tap, options: options)
    }
}
