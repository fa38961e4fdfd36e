// TCP, packets and pings through a pair of taps, and over a cable between two frontends, each beside a pair of veth
// interfaces in the same run; and packets through the rings alone, without taps.

import CommandSupport
import FoundationEssentials
import Glibc
import LinuxSystem
import NetworkFrontend

/// What `bench network` is asked for.
package struct NetworkBenchmark {
    /// What can be measured by itself.
    package enum Part: String, CaseIterable, Sendable { case taps, cable, rings }

    let seconds: Double
    let runs: Int
    let congestion: String
    private let only: Part?
    private let backendArguments: [String]
    private let frontendOptions: NetworkFrontendOptions

    /// - Parameters:
    ///   - seconds: of one run.
    ///   - runs: of each job.
    ///   - congestion: TCP's congestion control, of ours and of the reference.
    ///   - only: nil: all parts.
    ///   - backendArguments: what `causeway backend` is started with for the rings alone.
    ///   - frontendOptions: for the rings alone.
    package init(
        seconds: Double, runs: Int, congestion: String, only: Part?, backendArguments: [String],
        frontendOptions: NetworkFrontendOptions
    ) {
        self.seconds = seconds
        self.runs = runs
        self.congestion = congestion
        self.only = only
        self.backendArguments = backendArguments
        self.frontendOptions = frontendOptions
    }

    /// Runs `causeway bench network --inside` in a pair of two interfaces and a cable, in a namespace that ends with
    /// it; the pair's status.
    /// - Parameters:
    ///   - words: the inner command's further arguments.
    ///   - arguments: the pair's.
    package static func runInside(_ words: [String], pair arguments: [String]) throws(Failure) -> Int32 {
        guard geteuid() == 0 else { throw Failure("bench network: taps and namespaces need root") }
        // Before any thread; unnamed, so it ends with the last process in it.
        do throws(Errno) { try NetworkNamespace.makeUnnamed() } catch { throw Failure("bench network: a namespace: \(error)") }
        _ = try Capture.run(["ip", "link", "set", "lo", "up"])
        Signals.block(Signals.termination + [SIGCHLD])
        let own = try Executable.path()
        let pair = try ChildProcess.start(
            [
                own, "pair", "--quiet", "--vif", "mac=00:16:3e:be:0c:01", "--vif",
                "mac=00:16:3e:be:0c:02,peer=00:16:3e:be:0c:03",
            ] + arguments + ["--", own, "bench", "network", "--inside"] + words,
            // In a group of its own: ^C reaches it once, by way of this process. Twice it would end what it runs at
            // once.
            ownGroup: true)
        while true {
            if let status = pair.reap() { return status.shellStatus }
            if let signal = Signals.wait(for: Signals.termination + [SIGCHLD], milliseconds: 1000), signal != SIGCHLD {
                pair.signal(signal)
            }
        }
    }

    /// Measures on the interfaces of the pair that this process runs in.
    package func run() throws -> BenchReport {
        let links = try BenchLinks(
            near: Self.variable("CAUSEWAY_TAP_BACK_0"), far: Self.variable("CAUSEWAY_TAP_FRONT_0"),
            namespace: Self.variable("CAUSEWAY_NETNS_0"), hasBareTaps: true)
        defer { links.close() }
        let cable = try BenchLinks(
            near: Self.variable("CAUSEWAY_TAP_FRONT_1"), nearNamespace: Self.variable("CAUSEWAY_NETNS_1"),
            far: Self.variable("CAUSEWAY_TAP_FRONT_2"), namespace: Self.variable("CAUSEWAY_NETNS_2"), net: 98)
        var report = BenchReport()
        if only ?? .taps == .taps {
            try measureStreams(links, ["TCP to the frontend", "TCP from the frontend"], &report)
            try measurePackets(links, ["packets to the frontend", "packets from the frontend"], &report)
            try measurePings(links, "ping, median", &report)
        }
        if only ?? .cable == .cable {
            try measureStreams(cable, ["cable, TCP"], &report)
            try measurePackets(cable, ["cable, packets"], &report)
            try measurePings(cable, "cable, ping, median", &report)
        }
        if only ?? .rings == .rings { try measureRings(&report) }
        return report
    }

    private static func variable(_ name: String) throws(Failure) -> String {
        guard let value = ProcessInfo.processInfo.environment[name] else {
            throw Failure("bench: no \(name); start it with bench network")
        }
        return value
    }

    /// The rings alone.
    private func measureRings(_ report: inout BenchReport) throws {
        let directory = try EarlyEnd.makeDirectory()
        defer { EarlyEnd.remove(directory) }
        let rig = try RingRig(directory: directory, backend: backendArguments, frontend: frontendOptions)
        defer { rig.end() }
        for size in [64, 1500] {
            for isReverse in [false, true] {
                let name = "without taps, packets \(isReverse ? "from" : "to") the frontend, \(size) bytes"
                var rate = BenchResult(name: name, unit: "packets/s", ours: [], reference: [])
                var time = BenchResult(
                    name: "processor time, \(name)", unit: "ns/packet", ours: [], reference: [], moreIsBetter: false)
                var events = BenchResult(
                    name: "events a packet, \(name)", unit: "events", ours: [], reference: [], moreIsBetter: false)
                for _ in 0..<runs {
                    let load = try rig.run(byteCount: size, fromFrontend: isReverse, seconds: seconds)
                    rate.ours.append(load.perSecond)
                    time.ours.append(load.processorNanoseconds / max(1, load.packets))
                    events.ours.append(load.events / max(1, load.packets))
                }
                report.results += [rate, time, events]
            }
        }
    }
}
