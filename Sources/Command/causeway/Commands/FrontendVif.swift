// causeway frontend vif: an interface as its guest sees it, as a tap, in a namespace if one is named.

import ArgumentParser
import CommandSupport
import LinuxSystem
import XenTypes

struct FrontendVif: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "vif", abstract: "Connects to a network interface and makes it a tap, until interrupted.",
        discussion: "The tap is gone with this process unless somebody else holds it.")

    @OptionGroup var host: HostOptions
    @OptionGroup var loudness: QuietOption
    @OptionGroup var confinement: ConfinementOptions
    @OptionGroup var user: UserOptions
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
        if let netns {
            do throws(NamespaceError) { try NetworkNamespace.enter(netns) } catch { throw Failure("--netns: \(netns): \(error)") }
        }
        var options = features.frontendOptions
        options.reactors = threads.count
        options.notes = { note("netfront: \($0)") }
        if xen, features.vifPolling == nil { options.polling = .inDomain }
        if xen {
            return try FrontendRole.serveXen(
                number: number, tap: tap, runDirectory: host.givenDirectory ?? "/run/causeway", options: options)
        }
        try FrontendRole.serve(
            in: try host.directory(), domain: DomainID(domain), number: number, tap: tap, options: options
        ) { () throws(Failure) in try confinement.confine(.networkFrontend, as: user.range) }
    }
}
