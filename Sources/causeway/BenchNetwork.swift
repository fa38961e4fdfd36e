// causeway bench network: TCP, packets and pings through a pair of taps, and over a cable between two frontends, each beside a pair of veth
// interfaces in the same run; and packets through the rings alone, without taps.

import ArgumentParser
import CLinux
import Glibc

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
    @Option(help: "Seconds of one run.") var seconds = 2.0
    @Option(help: "Runs of each job.") var runs = 5
    @Option(help: "The congestion control of both: pacing, as bbr has it, measures its own timers.") var congestion = "cubic"
    @Option(help: "Only this: taps, cable or rings.") var only: Part?
    @Flag(help: "One JSON object instead of a table.") var json = false
    /// What can be measured by itself.
    enum Part: String, ExpressibleByArgument, CaseIterable { case taps, cable, rings }
    /// Given to the command that the pair runs: this one.
    @Flag(help: .hidden) var inside = false

    func validate() throws {
        guard seconds > 0, seconds <= 600, (1...100).contains(runs) else {
            throw ValidationError("--seconds: up to 600, --runs: 1 to 100")
        }
    }

    func run() throws {
        if inside { return try measure() }
        guard geteuid() == 0 else { throw Failure("bench network: taps and namespaces need root") }
        // Before any thread; unnamed, so it ends with the last process in it.
        guard causeway_new_network_namespace() == 0 else { throw Failure("bench network: a namespace: \(systemMessage(errno))") }
        _ = try Capture.run(["ip", "link", "set", "lo", "up"])
        Signals.block(Signals.termination + [SIGCHLD])
        let own = try Executable.path()
        let command =
            [own, "bench", "network", "--inside", "--seconds", "\(seconds)", "--runs", "\(runs)", "--congestion", congestion]
            + features.arguments + threads.arguments + (only.map { ["--only", $0.rawValue] } ?? []) + (json ? ["--json"] : [])
        let pair = try ChildProcess.start(
            [
                own, "pair", "--quiet", "--vif", "mac=00:16:3e:be:0c:01", "--vif",
                "mac=00:16:3e:be:0c:02,peer=00:16:3e:be:0c:03",
            ] + features.arguments + threads.arguments + ["--"] + command, ownGroup: false)
        while true {
            if let status = pair.reap() { throw Failure.silent(status.shellStatus) }
            if let signal = Signals.wait(for: Signals.termination + [SIGCHLD], milliseconds: 1000), signal != SIGCHLD {
                pair.signal(signal)
            }
        }
    }

    private func measure() throws {
        let environment = ProcessEnvironment()
        let links = try BenchLinks(
            near: environment.required("CAUSEWAY_TAP_BACK_0"), far: environment.required("CAUSEWAY_TAP_FRONT_0"),
            namespace: environment.required("CAUSEWAY_NETNS_0"), hasBareTaps: true)
        defer { links.close() }
        let cable = try BenchLinks(
            near: environment.required("CAUSEWAY_TAP_FRONT_1"), nearNamespace: environment.required("CAUSEWAY_NETNS_1"),
            far: environment.required("CAUSEWAY_TAP_FRONT_2"), namespace: environment.required("CAUSEWAY_NETNS_2"), net: 98)
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
        if json { printLine(report.json) } else { for line in report.table { printLine(line) } }
    }

    /// TCP, in Gb/s.
    /// - Parameter names: of the way there, and of the way back if that is to be measured, too.
    private func measureStreams(_ links: BenchLinks, _ names: [String], _ report: inout BenchReport) throws(Failure) {
        let server = try links.startServer()
        defer { server.stop(milliseconds: 2000) }
        for streams in [1, 8] {
            for (index, direction) in names.enumerated() {
                let isReverse = index > 0
                let name = "\(direction), \(streams == 1 ? "1 stream" : "\(streams) streams")"
                var result = BenchResult(name: name, unit: "Gb/s", ours: [], reference: [])
                var bare = BenchResult(name: "\(name), beside bare taps", unit: "Gb/s", ours: [], reference: [])
                for _ in 0..<runs {
                    let job = StreamJob(streams: streams, isReverse: isReverse, seconds: seconds, congestion: congestion)
                    result.ours.append(try links.run(job, on: links.pair))
                    result.reference.append(try links.run(job, on: links.veth))
                    if let link = links.bare { bare.reference.append(try links.run(job, on: link)) }
                }
                bare.ours = result.ours
                report.results += links.bare == nil ? [result] : [result, bare]
            }
        }
    }

    /// Frames through both taps and one queue.
    private func measurePackets(_ links: BenchLinks, _ names: [String], _ report: inout BenchReport) throws(Failure) {
        let drivers = ProcessorTime.roles(["backend", "frontend"])
        for size in [64, 1500] {
            for (index, direction) in names.enumerated() {
                let isReverse = index > 0
                let name = "\(direction), \(size) bytes"
                var rate = BenchResult(name: name, unit: "packets/s", ours: [], reference: [])
                var time = BenchResult(
                    name: "processor time, \(name)", unit: "ns/packet", ours: [], reference: [], moreIsBetter: false)
                for _ in 0..<runs {
                    let before = ProcessorTime.nanoseconds(of: drivers)
                    let ours = try links.flood(links.pair, byteCount: size, isReverse: isReverse, seconds: seconds)
                    time.ours.append(Double(ProcessorTime.nanoseconds(of: drivers) - before) / max(1, ours.packets))
                    rate.ours.append(ours.perSecond)
                    rate.reference.append(
                        try links.flood(links.veth, byteCount: size, isReverse: isReverse, seconds: seconds).perSecond)
                }
                report.results += [rate, time]
            }
        }
    }

    private func measurePings(_ links: BenchLinks, _ name: String, _ report: inout BenchReport) throws(Failure) {
        var result = BenchResult(name: name, unit: "µs", ours: [], reference: [], moreIsBetter: false)
        for _ in 0..<runs {
            result.ours.append(try links.ping(links.pair))
            result.reference.append(try links.ping(links.veth))
        }
        report.results.append(result)
    }

    /// The rings alone.
    private func measureRings(_ report: inout BenchReport) throws {
        let directory = try PairDirectory(given: nil)
        defer { directory.remove() }
        let rig = try RingRig(directory: directory, features: features, threads: threads)
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

/// causeway bench frames: the sender of `bench network`.
struct BenchFrames: ParsableCommand {
    static let configuration = CommandConfiguration(commandName: "frames", shouldDisplay: false)

    @Option var interface: String
    @Option var size: Int
    @Option var seconds: Double

    func run() throws {
        let socket = unsafe causeway_frame_socket(interface)
        guard socket >= 0 else { throw Failure("bench frames: \(interface): \(systemMessage(errno))") }
        // To everybody, of a type that nobody knows: it ends where it arrives.
        let frame: [UInt8] =
            [255, 255, 255, 255, 255, 255, 2, 0, 0, 0, 0, 1, 0x88, 0xB5] + Array(repeating: 0, count: max(0, size - 14))
        let end = ContinuousClock.now + .milliseconds(Int(seconds * 1000))
        while ContinuousClock.now < end {
            let sent = unsafe causeway_send_frames(socket, frame, frame.count, 64)
            if sent < 0 {
                guard errno == ENOBUFS || errno == EAGAIN || errno == EINTR else {
                    throw Failure("bench frames: \(interface): \(systemMessage(errno))")
                }
                usleep(50)
            } else if sent < 64 {
                usleep(50)
            }
        }
    }
}
