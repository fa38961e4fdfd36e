import Foundation
import Testing
import TestSupport

extension EndToEnd {
    @Suite("Scarce memory") struct ScarceMemory {
        /// Two clients of a disk's that ask for as much as they can, and take nothing of it.
        private static let greedy = """
            import socket, struct, sys, time
            clients = []
            for _ in range(2):
                client = socket.socket(socket.AF_UNIX)
                client.connect(sys.argv[1])
                client.recv(18, socket.MSG_WAITALL)
                client.sendall(struct.pack(">I", 3) + struct.pack(">QIIIH", 0x49484156454F5054, 7, 6, 0, 0))
                while struct.unpack(">QIII", (head := client.recv(20, socket.MSG_WAITALL)))[2] != 1:
                    client.recv(struct.unpack(">QIII", head)[3], socket.MSG_WAITALL)
                for cookie in range(100):
                    client.sendall(struct.pack(">IHHQQI", 0x25609513, 0, 0, cookie, 0, 32 << 20))
                clients.append(client)
            print("asked", flush=True)
            time.sleep(600)
            """

        @Test(
            "L16: in little memory a disk serves on beside clients that ask for all there is; nothing is killed (needs root)",
            .enabled(if: MemoryGroup.isThere))
        func littleMemory() throws {
            let scratch = try Scratch()
            let image = try scratch.makeImage(megabytes: 64)
            let group = try MemoryGroup()
            let run = "\(scratch.path)/run"
            let pair = try RunningProcess(
                [
                    "sh", "-c", "echo $$ > \(group.path)/cgroup.procs; exec \"$@\"", "sh", Tools.causeway, "pair", "--run-dir", run,
                    "--disk", "\(image),raw,xvda,w",
                ], in: scratch)
            try #require(eventually(30_000) { pair.output.contains("xvda:") || !pair.isRunning })
            // What they have, each client's longest answer, and some room.
            try group.limit(bytes: group.used + 2 * (32 << 20) + (64 << 20))
            let greedy = try RunningProcess(["python3", "-c", Self.greedy, "\(run)/xvda.sock"], in: scratch)
            try #require(eventually(20_000) { greedy.output.contains("asked") }, "\(greedy.errors)")
            let fio = try RunningProcess.run(
                verifyJob(megabytes: 16), environment: ["uri": "nbd+unix:///?socket=\(run)/xvda.sock"], in: scratch, seconds: 120)
            #expect(fio.status == 0, "\(fio.errors.suffix(1000)) \(pair.errors)")
            #expect(try group.kills == 0)
            let roles = ["host", "backend", "frontend"].map { ProcessTable.children(of: pair.pid, commandPrefix: "causeway \($0)") }
            #expect(roles.map(\.count) == [1, 1, 1] && !pair.errors.contains("killed"), "\(pair.errors)")
            kill(greedy.pid, SIGTERM)
            kill(pair.pid, SIGTERM)
            #expect(pair.wait(seconds: 20)?.status == 0)
        }
    }
}

/// A group of processes whose memory has a limit, by whichever of the kernel's two interfaces there is.
private final class MemoryGroup {
    private static let isUnified = FileManager.default.fileExists(atPath: "/sys/fs/cgroup/cgroup.controllers")
    private static let root = isUnified ? "/sys/fs/cgroup" : "/sys/fs/cgroup/memory"

    /// Whether this process may make one.
    static let isThere: Bool = { Tools.isRoot && (try? MemoryGroup()) != nil }()

    let path: String

    init() throws {
        path = "\(Self.root)/causeway-\(UUID().uuidString.prefix(8))"
        if Self.isUnified { try? Self.write("+memory", "\(Self.root)/cgroup.subtree_control") }
        try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: false)
        let limit = Self.isUnified ? "memory.max" : "memory.limit_in_bytes"
        guard FileManager.default.fileExists(atPath: "\(path)/\(limit)") else {
            rmdir(path)
            throw TestFailure("no memory controller")
        }
    }

    deinit { _ = eventually(5000) { rmdir(path) == 0 } }

    private static func write(_ text: String, _ path: String) throws {
        try text.write(toFile: path, atomically: false, encoding: .utf8)
    }

    private func read(_ name: String) throws -> String { try String(contentsOfFile: "\(path)/\(name)", encoding: .utf8) }

    func limit(bytes: Int) throws {
        try Self.write("\(bytes)", "\(path)/\(Self.isUnified ? "memory.max" : "memory.limit_in_bytes")")
        if Self.isUnified { try? Self.write("0", "\(path)/memory.swap.max") }
    }

    /// Bytes in use, those of files included.
    var used: Int {
        get throws {
            let text = try read(Self.isUnified ? "memory.current" : "memory.usage_in_bytes")
            return Int(text.trimmingCharacters(in: .whitespacesAndNewlines)) ?? 0
        }
    }

    /// Processes that the kernel has killed for want of memory.
    var kills: Int {
        get throws {
            let lines = try read(Self.isUnified ? "memory.events" : "memory.oom_control").split(separator: "\n")
            return lines.first { $0.hasPrefix("oom_kill ") }.flatMap { Int($0.dropFirst(9)) } ?? 0
        }
    }
}
