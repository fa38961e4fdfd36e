// The switches of the block protocol: each feature can be turned off or bounded, on both sides. What is not given is
// left to each side's own default.

import ArgumentParser
import BlockBackend
import BlockFrontend
import Reactor

/// How a backend's reactors wait: `sleep`, `adaptive:MICROSECONDS` or `always`.
struct PollingArgument: ExpressibleByArgument {
    let policy: PollingPolicy
    let argument: String

    init?(argument: String) {
        self.argument = argument
        switch argument {
        case "sleep": policy = .sleep
        case "always": policy = .always
        default:
            guard argument.hasPrefix("adaptive:"), let time = UInt32(argument.dropFirst("adaptive:".count)) else {
                return nil
            }
            policy = .adaptive(microseconds: time)
        }
    }
}

/// Which features to offer or to ask for.
struct BlockFeatures: ParsableArguments {
    @Option(help: "Queues of a disk at most.") var queues: UInt32?
    @Option(help: "Order of a queue's ring pages at most, 0 to 5.") var ringPageOrder: UInt32?
    @Option(help: "Segments of a request at most; 11 or less: no indirect requests.") var segments: UInt32?
    @Flag(help: "Grants are mapped and unmapped for each request.") var noPersistent = false
    @Flag(help: "The backend does not offer flush.") var noFlush = false
    @Flag(help: "The backend does not offer barriers.") var noBarrier = false
    @Flag(help: "The backend does not offer discard.") var noDiscard = false
    @Option(
        help: ArgumentHelp(
            "How a disk's two sides wait: sleep, adaptive:MICROSECONDS or always.",
            discussion: "Default: adaptive:200; with --xen adaptive:20. An NBD server never spins for ever."))
    var polling: PollingArgument?
    @Option(
        help: ArgumentHelp(
            "How long requests wait for an NBD server that is away, and the backend for one that is not there yet, in seconds.",
            discussion: "Default: 30. Then requests fail, until the server is back. 0: nothing waits.", valueName: "seconds"))
    var reconnectDelay: UInt32?
    @OptionGroup var memory: MemoryOptions
    @Option(help: "The frontend's ring layout: native, x86_32 or x86_64.") var abi: String?

    func validate() throws {
        if let ringPageOrder, ringPageOrder > 5 {
            throw ValidationError("--ring-page-order: 0 to 5, not \(ringPageOrder)")
        }
        if let queues, queues == 0 || queues > 64 { throw ValidationError("--queues: 1 to 64, not \(queues)") }
        if let segments, segments == 0 || segments > 4096 {
            throw ValidationError("--segments: 1 to 4096, not \(segments)")
        }
        if let abi, !["native", "x86_32", "x86_64"].contains(abi) {
            throw ValidationError("--abi: native, x86_32 or x86_64, not \(abi)")
        }
    }

    /// The same switches, for a process that is started with them.
    var arguments: [String] {
        var list: [String] = []
        if let queues { list += ["--queues", "\(queues)"] }
        if let ringPageOrder { list += ["--ring-page-order", "\(ringPageOrder)"] }
        if let segments { list += ["--segments", "\(segments)"] }
        for (isSet, name) in [
            (noPersistent, "--no-persistent"), (noFlush, "--no-flush"), (noBarrier, "--no-barrier"),
            (noDiscard, "--no-discard"),
        ] where isSet { list.append(name) }
        if let polling { list += ["--polling", polling.argument] }
        if let reconnectDelay { list += ["--reconnect-delay", "\(reconnectDelay)"] }
        list += memory.arguments
        if let abi { list += ["--abi", abi] }
        return list
    }

    /// How a disk's NBD server waits: it shares its processors with its clients, and never spins for ever.
    var serverPolling: PollingPolicy {
        switch polling?.policy {
        case .always, nil: .onHost
        case let policy?: policy
        }
    }

    /// What concerns a frontend.
    var frontendOptions: BlockFrontendOptions {
        var options = BlockFrontendOptions()
        if let queues { options.queues = Int(queues) }
        if let ringPageOrder { options.ringPageOrder = ringPageOrder }
        if let segments { options.segments = Int(segments) }
        options.persistentGrants = !noPersistent
        switch abi {
        case "x86_32": options.abi = .x86_32
        case "x86_64": options.abi = .x86_64
        default: options.abi = .native
        }
        return options
    }

    /// What concerns a backend.
    var backendOptions: BlockBackendOptions {
        var options = BlockBackendOptions()
        if let queues { options.queues = queues }
        if let ringPageOrder { options.ringPageOrder = ringPageOrder }
        if let segments { options.indirectSegments = segments <= 11 ? 0 : segments }
        options.persistentGrants = !noPersistent
        options.flush = !noFlush
        options.barrier = !noBarrier
        options.discard = !noDiscard
        if let polling { options.polling = polling.policy }
        if let reconnectDelay { options.reconnectDelayMilliseconds = UInt64(reconnectDelay) * 1000 }
        options.dma = memory.options
        return options
    }
}
