// causeway bench network: TCP, packets and pings through a pair of taps, and over a cable between two frontends, each
// beside a pair of veth interfaces in the same run; and packets through the rings alone, without taps.

import ArgumentParser
import Benchmarks
import CommandSupport

struct BenchNetwork: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "network",
        abstract: "TCP, packets and pings through a pair, beside veth, and packets through the rings alone (as root).",
        discussion: """
            Each figure is the median of its runs; ours and the reference take turns. Everything happens in namespaces that end with the
            run. TCP is iperf3's, one and eight streams; packets are whole Ethernet frames, sent as fast as the queue takes them and counted
            where they arrive. The reference is a veth pair; "bare taps" are two taps and one process that copies frames from the one to the
            other, and does nothing else. "Cable": two frontends, each with a tap in a namespace of its own, joined through one backend
            (peer=). "Without taps": a backend and a frontend process, nothing on either side but memory.
            """)

    @OptionGroup var features: VifFeatures
    @OptionGroup var threads: ReactorOptions
    @OptionGroup var confinement: ConfinementOptions
    @Option(help: "Seconds of one run.") var seconds = 2.0
    @Option(help: "Runs of each job.") var runs = 5
    @Option(help: "The congestion control of both: pacing, as bbr has it, measures its own timers.") var congestion = "cubic"
    @Option(help: "Only this: taps, cable or rings.") var only: NetworkBenchmark.Part?
    @Flag(help: "One JSON object instead of a table.") var json = false
    /// Given to the command that the pair runs: this one.
    @Flag(help: .hidden) var inside = false

    func validate() throws {
        guard seconds > 0, seconds <= 600, (1...100).contains(runs) else {
            throw ValidationError("--seconds: up to 600, --runs: 1 to 100")
        }
    }

    func run() throws {
        let own = features.arguments + threads.arguments + confinement.arguments
        guard inside else {
            let words =
                ["--seconds", "\(seconds)", "--runs", "\(runs)", "--congestion", congestion] + own
                + (only.map { ["--only", $0.rawValue] } ?? []) + (json ? ["--json"] : [])
            throw Failure.silent(try NetworkBenchmark.runInside(words, pair: own))
        }
        var options = features.frontendOptions
        // One queue, unless more are asked for: what its two threads can do.
        options.queues = Int(features.vifQueues ?? 1)
        options.reactors = threads.reactors ?? 1
        let benchmark = NetworkBenchmark(
            seconds: seconds, runs: runs, congestion: congestion, only: only, backendArguments: own, frontendOptions: options)
        try EarlyEnd.covering { try benchmark.run().print(json: json) }
    }
}

extension NetworkBenchmark.Part: ExpressibleByArgument {}

/// causeway bench frames: the sender of `bench network`.
struct BenchFrames: ParsableCommand {
    static let configuration = CommandConfiguration(commandName: "frames", shouldDisplay: false)

    @Option var interface: String
    @Option var size: Int
    @Option var seconds: Double

    func run() throws { try FrameGenerator.run(on: interface, byteCount: size, seconds: seconds) }
}

/// causeway bench forward: the reference of `bench network` that has taps, too.
struct BenchForward: ParsableCommand {
    static let configuration = CommandConfiguration(commandName: "forward", shouldDisplay: false)

    @Option var near: String
    @Option var far: String
    @Option var netns: String
    /// Ends with the process that started it.
    @OptionGroup var host: HostOptions

    func run() throws {
        try host.followParent()
        try TapForwarder.run(near: near, far: far, namespace: netns)
    }
}
