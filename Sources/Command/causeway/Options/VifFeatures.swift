// The switches of the network protocol: each feature can be turned off or bounded, on both sides.

import ArgumentParser
import NetworkBackend
import NetworkFrontend
import NetworkProtocol

/// Which features of a vif to offer or to ask for.
struct VifFeatures: ParsableArguments {
    @Option(
        help: ArgumentHelp(
            "Queues of an interface at most.",
            discussion: "Default: a backend takes up to 4; a frontend asks for one for each processor, 8 at most."))
    var vifQueues: UInt32?
    @Option(
        help: ArgumentHelp(
            "How an interface's two sides wait: sleep, adaptive:MICROSECONDS or always.",
            discussion: "Default: adaptive:200; with --xen adaptive:20."))
    var vifPolling: PollingArgument?
    @Flag(help: "Packets have one slot, and no large packets.") var noSg = false
    @Flag(help: "No large packets of TCP over IPv4.") var noGso4 = false
    @Flag(help: "No large packets of TCP over IPv6.") var noGso6 = false
    @Flag(help: "Checksums over IPv4 are never left blank.") var noCsum4 = false
    @Flag(help: "Checksums over IPv6 are never left blank.") var noCsum6 = false
    @Flag(help: "One doorbell for both directions of a queue.") var noSplit = false
    @Flag(help: "No control ring.") var noControlRing = false
    @Flag(help: "Pages are copied by the hypervisor, not kept mapped.") var noGrantMapping = false

    func validate() throws {
        if let vifQueues, !(1...64).contains(vifQueues) { throw ValidationError("--vif-queues: 1 to 64, not \(vifQueues)") }
    }

    private var switches: [(Bool, String)] {
        [
            (noSg, "--no-sg"), (noGso4, "--no-gso4"), (noGso6, "--no-gso6"), (noCsum4, "--no-csum4"), (noCsum6, "--no-csum6"),
            (noSplit, "--no-split"), (noControlRing, "--no-control-ring"), (noGrantMapping, "--no-grant-mapping"),
        ]
    }

    /// The same switches, for a process that is started with them.
    var arguments: [String] {
        (vifQueues.map { ["--vif-queues", "\($0)"] } ?? []) + (vifPolling.map { ["--vif-polling", $0.argument] } ?? [])
            + switches.filter(\.0).map(\.1)
    }

    private var features: NetworkFeatures {
        var set = NetworkFeatures.all
        for (isOff, feature) in [
            (noSg, NetworkFeatures.scatterGather), (noGso4, .tcp4), (noGso6, .tcp6), (noCsum4, .checksum4),
            (noCsum6, .checksum6),
        ] where isOff { set.remove(feature) }
        return set.consistent
    }

    var backendOptions: NetworkBackendOptions {
        var options = NetworkBackendOptions()
        options.features = features
        if let vifQueues { options.queues = vifQueues }
        if let vifPolling { options.polling = vifPolling.policy }
        options.splitChannels = !noSplit
        options.controlRing = !noControlRing
        if noGrantMapping { options.grantMappings = 0 }
        return options
    }

    var frontendOptions: NetworkFrontendOptions {
        var options = NetworkFrontendOptions()
        options.features = features
        // As Linux's netfront: one for each processor.
        options.queues = vifQueues.map { Int($0) } ?? ReactorOptions.processors
        if let vifPolling { options.polling = vifPolling.policy }
        options.splitChannels = !noSplit
        options.controlRing = !noControlRing
        options.mapsGrants = !noGrantMapping
        return options
    }
}
