// The links of `bench network` between the same two namespaces: one through the pair, a pair of veth interfaces, and
// two taps with nothing but a copying loop between them.

import CommandSupport
import FoundationEssentials
import Glibc
import LinuxSystem

/// One job of iperf3.
struct StreamJob {
    var streams: Int
    /// From the far side to the near one.
    var isReverse: Bool
    var seconds: Double
    var congestion: String
}

struct BenchLinks {
    struct Link {
        /// Interfaces on the near and on the far side, and the address on the far one.
        let near: String
        let far: String
        let address: String
    }

    let pair: Link
    let veth: Link
    /// Nil where it was not asked for.
    let bare: Link?
    private let forwarder: ChildProcess?
    /// Nil: this process's own.
    private let nearNamespace: String?
    private let namespace: String

    /// Makes the links beside the pair's, and gives every interface its address.
    /// - Parameters:
    ///   - near: the pair's interface on the near side, in `nearNamespace` or here.
    ///   - far: its other end, in `namespace`.
    ///   - net: the networks are 10.net.0, 10.net.1, …
    ///   - hasBareTaps: whether there are to be bare taps, too; the near one is here.
    init(
        near: String, nearNamespace: String? = nil, far: String, namespace: String, net: Int = 99, hasBareTaps: Bool = false
    ) throws(Failure) {
        self.nearNamespace = nearNamespace
        self.namespace = namespace
        pair = Link(near: near, far: far, address: "10.\(net).0.2")
        veth = Link(near: "veth-here", far: "veth-there", address: "10.\(net).1.2")
        bare = hasBareTaps ? Link(near: "bare-here", far: "bare-there", address: "10.\(net).2.2") : nil
        if let bare {
            forwarder = try ChildProcess.start(
                [
                    try Executable.path(), "bench", "forward", "--near", bare.near, "--far", bare.far, "--netns", namespace,
                    "--exit-with", "\(getpid())",
                ],
                ownGroup: true)
        } else {
            forwarder = nil
        }
        try ip(isFar: false, ["link", "add", veth.near, "type", "veth", "peer", "name", veth.far, "netns", namespace])
        let links = [pair, veth] + (bare.map { [$0] } ?? [])
        for (index, link) in links.enumerated() {
            try expect(link.near, isFar: false)
            try expect(link.far, isFar: true)
            try ip(isFar: false, ["addr", "add", "10.\(net).\(index).1/24", "dev", link.near])
            try ip(isFar: false, ["link", "set", link.near, "up"])
            try ip(isFar: true, ["addr", "add", "\(link.address)/24", "dev", link.far])
            try ip(isFar: true, ["link", "set", link.far, "up"])
        }
        for link in links { _ = try Capture.run(here(["ping", "-q", "-c", "1", "-W", "5", link.address])) }
    }

    /// Ends the loop between the bare taps, which go with it.
    func close() { forwarder?.stop(milliseconds: 2000) }

    /// Waits until an interface is there: another process may be about to make it.
    private func expect(_ name: String, isFar: Bool) throws(Failure) {
        for _ in 0..<100 {
            if (try? ip(isFar: isFar, ["link", "show", "dev", name])) != nil { return }
            SystemTime().sleep(milliseconds: 20)
        }
        throw Failure("bench: no interface \(name)")
    }

    private func ip(isFar: Bool, _ words: [String]) throws(Failure) {
        let chosen = isFar ? namespace : nearNamespace
        _ = try Capture.run(["ip"] + (chosen.map { ["-n", $0] } ?? []) + words)
    }

    private func here(_ words: [String]) -> [String] { nearNamespace.map { ["ip", "netns", "exec", $0] + words } ?? words }
    private func there(_ words: [String]) -> [String] { ["ip", "netns", "exec", namespace] + words }

    func startServer() throws(Failure) -> ChildProcess {
        let nowhere = try? Descriptor.open("/dev/null", O_WRONLY)
        return try ChildProcess.start(there(["iperf3", "-s"]), ownGroup: true, output: nowhere)
    }

    /// Gb/s that arrived.
    func run(_ job: StreamJob, on link: Link) throws(Failure) -> Double {
        var words = [
            "iperf3", "-J", "-c", link.address, "-t", "\(Int(max(1, job.seconds)))", "-P", "\(job.streams)", "-C", job.congestion,
        ]
        if job.isReverse { words.append("-R") }
        struct Report: Decodable {
            struct End: Decodable {
                struct Sum: Decodable { let bits_per_second: Double }
                let sum_received: Sum
            }
            let end: End
        }
        // The server needs a moment, at first and between two clients.
        var last: Failure?
        for _ in 0..<20 {
            do throws(Failure) {
                let text = try Capture.run(here(words))
                guard let report = try? JSONDecoder().decode(Report.self, from: Data(text.utf8)) else {
                    throw Failure("bench: iperf3's report cannot be read: \(text.prefix(200))")
                }
                return report.end.sum_received.bits_per_second / 1e9
            } catch { last = error }
            SystemTime().sleep(milliseconds: 100)
        }
        throw last ?? Failure("bench: iperf3 fails")
    }

    struct Packets {
        var packets: Double
        var perSecond: Double
    }

    /// Frames that arrived at the link's other end.
    func flood(_ link: Link, byteCount: Int, isReverse: Bool, seconds: Double) throws(Failure) -> Packets {
        let own = try Executable.path()
        let words = [
            own, "bench", "frames", "--interface", isReverse ? link.far : link.near, "--size", "\(byteCount)", "--seconds",
            "\(seconds)",
        ]
        let before = try received(link, isReverse: isReverse)
        let start = ContinuousClock.now
        _ = try Capture.run(isReverse ? there(words) : here(words))
        let after = try received(link, isReverse: isReverse)
        let time = (ContinuousClock.now - start) / .seconds(1)
        return Packets(packets: after - before, perSecond: (after - before) / time)
    }

    /// The interface's counter of packets that came in.
    private func received(_ link: Link, isReverse: Bool) throws(Failure) -> Double {
        let words = ["cat", "/proc/self/net/dev"]
        let text = try Capture.run(isReverse ? here(words) : there(words))
        let name = isReverse ? link.near : link.far
        for line in text.split(separator: "\n") {
            let parts = line.split(separator: ":", maxSplits: 1)
            guard parts.count == 2, parts[0].drop(while: { $0 == " " }) == name else { continue }
            let fields = parts[1].split(separator: " ")
            if fields.count > 1, let count = Double(fields[1]) { return count }
        }
        throw Failure("bench: no counters of \(name)")
    }

    /// The median round trip of 300 pings, in microseconds.
    func ping(_ link: Link) throws(Failure) -> Double {
        let text = try Capture.run(here(["ping", "-n", "-c", "300", "-i", "0.002", "-W", "2", link.address]))
        let times = text.split(separator: "\n").compactMap { line -> Double? in
            line.split(separator: " ").first { $0.hasPrefix("time=") }.flatMap { Double($0.dropFirst("time=".count)) }
        }
        guard times.count > 200 else { throw Failure("bench: \(300 - times.count) of 300 pings were lost") }
        return BenchResult.median(times) * 1000
    }
}
