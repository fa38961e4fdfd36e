// The links of `bench network`: the pair's taps, a pair of veth interfaces between the same two namespaces, and two taps with nothing but a copying
// loop between them.

import FoundationEssentials
import Glibc

/// One job of iperf3.
struct StreamJob {
    var streams: Int
    /// From the frontend's side to ours.
    var isReverse: Bool
    var seconds: Double
    var congestion: String
}

struct BenchLinks {
    struct Link {
        /// Interfaces here and there, and the address there.
        let near: String
        let far: String
        let address: String
    }

    let pair: Link
    let veth: Link
    let bare: Link
    private let forwarder: ChildProcess
    private let namespace: String

    /// Makes the veth pair and gives every interface its address.
    init(tap: String, peer: String, namespace: String) throws(Failure) {
        self.namespace = namespace
        pair = Link(near: tap, far: peer, address: "10.99.0.2")
        veth = Link(near: "veth-here", far: "veth-there", address: "10.99.1.2")
        bare = Link(near: "bare-here", far: "bare-there", address: "10.99.2.2")
        forwarder = try ChildProcess.start(
            [try Executable.path(), "bench", "forward", "--near", bare.near, "--far", bare.far, "--netns", namespace],
            ownGroup: true)
        try Self.ip(["link", "add", veth.near, "type", "veth", "peer", "name", veth.far, "netns", namespace])
        for (link, network) in [(pair, "10.99.0"), (veth, "10.99.1"), (bare, "10.99.2")] {
            try Self.await(link.near, nil)
            try Self.await(link.far, namespace)
            try Self.ip(["addr", "add", "\(network).1/24", "dev", link.near])
            try Self.ip(["link", "set", link.near, "up"])
            try Self.ip(["-n", namespace, "addr", "add", "\(network).2/24", "dev", link.far])
            try Self.ip(["-n", namespace, "link", "set", link.far, "up"])
        }
        _ = try Capture.run(["ping", "-q", "-c", "1", "-W", "5", pair.address])
        _ = try Capture.run(["ping", "-q", "-c", "1", "-W", "5", veth.address])
        _ = try Capture.run(["ping", "-q", "-c", "1", "-W", "5", bare.address])
    }

    /// Ends the loop between the bare taps, which go with it.
    func close() { forwarder.stop(milliseconds: 2000) }

    /// Waits until an interface is there: another process may be about to make it.
    private static func await(_ name: String, _ namespace: String?) throws(Failure) {
        let words = ["link", "show", "dev", name]
        for _ in 0..<100 {
            if (try? ip(namespace.map { ["-n", $0] + words } ?? words)) != nil { return }
            usleep(20_000)
        }
        throw Failure("bench: no interface \(name)")
    }

    private static func ip(_ words: [String]) throws(Failure) { _ = try Capture.run(["ip"] + words) }

    private func there(_ words: [String]) -> [String] { ["ip", "netns", "exec", namespace] + words }

    func startServer() throws(Failure) -> ChildProcess {
        let nowhere = unsafe open("/dev/null", O_WRONLY | O_CLOEXEC)
        defer { Glibc.close(nowhere) }
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
                let text = try Capture.run(words)
                guard let report = try? JSONDecoder().decode(Report.self, from: Data(text.utf8)) else {
                    throw Failure("bench: iperf3's report cannot be read: \(text.prefix(200))")
                }
                return report.end.sum_received.bits_per_second / 1e9
            } catch { last = error }
            usleep(100_000)
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
        _ = try Capture.run(isReverse ? there(words) : words)
        let after = try received(link, isReverse: isReverse)
        let time = (ContinuousClock.now - start) / .seconds(1)
        return Packets(packets: after - before, perSecond: (after - before) / time)
    }

    /// The interface's counter of packets that came in.
    private func received(_ link: Link, isReverse: Bool) throws(Failure) -> Double {
        let text = try Capture.run(isReverse ? ["cat", "/proc/self/net/dev"] : there(["cat", "/proc/self/net/dev"]))
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
        let text = try Capture.run(["ping", "-n", "-c", "300", "-i", "0.002", "-W", "2", link.address])
        let times = text.split(separator: "\n").compactMap { line -> Double? in
            line.split(separator: " ").first { $0.hasPrefix("time=") }.flatMap { Double($0.dropFirst("time=".count)) }
        }
        guard times.count > 200 else { throw Failure("bench: \(300 - times.count) of 300 pings were lost") }
        return BenchResult.median(times) * 1000
    }
}

/// This process's variables.
struct ProcessEnvironment {
    func required(_ name: String) throws(Failure) -> String {
        guard let value = ProcessInfo.processInfo.environment[name] else {
            throw Failure("bench: no \(name); start it with bench network")
        }
        return value
    }
}

/// How much of the processors a process has used, as its scheduler counts it.
enum ProcessorTime {
    /// Our siblings of these roles: the children of the pair that runs us.
    static func roles(_ roles: [String]) -> [Int32] {
        let parent = getppid()
        return children(of: parent).filter { roles.contains(commandWord(1, of: $0)) }
    }

    /// All threads, in nanoseconds.
    static func nanoseconds(of processes: [Int32]) -> UInt64 {
        var sum: UInt64 = 0
        for process in processes {
            for task in names("/proc/\(process)/task") {
                sum += UInt64(text("/proc/\(process)/task/\(task)/schedstat").split(separator: " ").first ?? "") ?? 0
            }
        }
        return sum
    }

    private static func children(of parent: Int32) -> [Int32] {
        names("/proc/\(parent)/task").flatMap { task in
            text("/proc/\(parent)/task/\(task)/children").split(separator: " ").compactMap { Int32($0) }
        }
    }

    private static func commandWord(_ index: Int, of process: Int32) -> String {
        let words = text("/proc/\(process)/cmdline").split(separator: "\0", omittingEmptySubsequences: false)
        return words.indices.contains(index) ? String(words[index]) : ""
    }

    private static func names(_ path: String) -> [String] { (try? FileManager.default.contentsOfDirectory(atPath: path)) ?? [] }
    private static func text(_ path: String) -> String {
        FileManager.default.contents(atPath: path).map { String(decoding: $0, as: UTF8.self) } ?? ""
    }
}
