// vhost-bench CAUSEWAY [DIRECTORY]: 4 KiB random reads a second over vhost-user, `causeway export` beside
// qemu-storage-daemon, with the same front end, on a null device and on a file in the page cache. Both run at the same
// time and are asked in turn; medians of five. Beside it what a request costs the back end in processor time, which
// neighbours change less than its pace. QEMU's export has an I/O thread, ours what `export` has.

import CVhost
import Foundation

@main struct VhostBench {
    static let rounds = 5
    static let seconds = 0.5
    static let byteCount: UInt64 = 256 << 20

    static func main() {
        do { try measure() } catch {
            FileHandle.standardError.write(Data("vhost-bench: \(error)\n".utf8))
            exit(1)
        }
    }

    private static func measure() throws {
        let arguments = CommandLine.arguments
        guard arguments.count >= 2 else { throw BenchError(description: "usage: vhost-bench CAUSEWAY [DIRECTORY]") }
        let parent = arguments.count > 2 ? arguments[2] : "/var/tmp"
        let directory = "\(parent)/vhost-bench.\(getpid())"
        try FileManager.default.createDirectory(atPath: directory, withIntermediateDirectories: false)
        defer { try? FileManager.default.removeItem(atPath: directory) }
        let image = "\(directory)/disk.img"
        // Written, not left a hole: a hole is read from nowhere.
        try Data(repeating: 0x5A, count: Int(byteCount)).write(to: URL(fileURLWithPath: image))
        say(
            "4 KiB random reads a second".padding(to: 52) + "ours".padding(to: 10) + "QEMU's".padding(to: 10)
                + "ratio".padding(to: 20)
                + "ns of the back end, ours, QEMU's, ratio")
        try compare("null device", Servers(arguments[1], directory, "null"))
        try compare("file in the page cache", Servers(arguments[1], directory, image))
    }

    private static func compare(_ name: String, _ servers: Servers) throws {
        defer { servers.stop() }
        let ends = try [servers.ours, servers.theirs].map { try FrontEnd($0, byteCount: byteCount) }
        for (depth, polls) in [(1, false), (32, false), (1, true), (32, true)] {
            var paces: [[Double]] = [[], []], costs: [[Double]] = [[], []]
            for _ in 0..<rounds {
                for index in 0..<2 {
                    let before = servers.processorTime(index)
                    let run = try ends[index].run(depth: depth, seconds: seconds, polls: polls)
                    paces[index].append(run.requests / run.seconds)
                    costs[index].append(Double(servers.processorTime(index) - before) / run.requests)
                }
            }
            let ratios = zip(paces[0], paces[1]).map { $0 / $1 }.sorted()
            let saved = zip(costs[0], costs[1]).map { $1 / $0 }.sorted()
            let (pace, cost) = (paces.map { Int(median($0)) }, costs.map { Int(median($0)) })
            say(
                "\(name), depth \(depth), front end \(polls ? "polls" : "sleeps")".padding(to: 52)
                    + "\(pace[0])".padding(to: 10) + "\(pace[1])".padding(to: 10)
                    + "\(hundredths(median(ratios))) (\(hundredths(ratios[0]))–\(hundredths(ratios[rounds - 1])))".padding(to: 20)
                    + "\(cost[0])".padding(to: 8) + "\(cost[1])".padding(to: 8) + hundredths(median(saved)))
        }
    }

    private static func median(_ values: [Double]) -> Double { values.sorted()[values.count / 2] }

    /// At once, whoever reads.
    private static func say(_ line: String) { FileHandle.standardOutput.write(Data("\(line)\n".utf8)) }

    private static func hundredths(_ value: Double) -> String { String(format: "%.2f", value) }
}

/// The two back ends, on the same disk.
struct Servers {
    let ours: String
    let theirs: String
    private let processes: [Process]

    init(_ causeway: String, _ directory: String, _ image: String) throws {
        let isNull = image == "null"
        ours = "\(directory)/\(isNull ? "n" : "f")-ours.sock"
        theirs = "\(directory)/\(isNull ? "n" : "f")-theirs.sock"
        let size = VhostBench.byteCount
        let disk = isNull ? "null:\(size),,xvda" : "\(image),raw,xvda,r"
        let node = isNull ? "null-co,node-name=d,size=\(size)" : "file,node-name=d,filename=\(image),aio=io_uring,read-only=on"
        let commands = [
            [causeway, "export", "--quiet", "--disk", disk, "--socket", ours, "--queues", "1"],
            [
                "qemu-storage-daemon", "--object", "iothread,id=t", "--blockdev", node, "--export",
                "vhost-user-blk,id=e,node-name=d,addr.type=unix,addr.path=\(theirs),iothread=t,num-queues=1",
            ],
        ]
        processes = try commands.map { command in
            let process = Process()
            process.executableURL = URL(fileURLWithPath: "/usr/bin/env")
            // Whoever ends this program, however, ends them.
            process.arguments = ["setpriv", "--pdeathsig", "TERM"] + command
            try process.run()
            return process
        }
    }

    /// Nanoseconds that our back end (0) or QEMU's (1) has used.
    func processorTime(_ index: Int) -> UInt64 { cvhost_processor_time(processes[index].processIdentifier) }

    func stop() {
        for process in processes {
            process.terminate()
            process.waitUntilExit()
        }
    }
}

extension String {
    func padding(to width: Int) -> String { self + String(repeating: " ", count: max(0, width - count)) }
}
