// Whoever is asked to end does, in every phase, and leaves nothing.

import Foundation
import TestSupport
import Testing

extension EndToEnd {
    @Suite("Asked to end") struct Ending {
        /// A pair that is somewhere on its way; its directory is in the scratch.
        private final class Started {
            let scratch: Scratch
            let running: RunningProcess

            init(_ words: [String], around: [String] = [], in scratch: Scratch) throws {
                self.scratch = scratch
                running = try RunningProcess(
                    around + [Tools.causeway, "pair"] + words, environment: ["TMPDIR": scratch.path], in: scratch)
            }

            /// Waits for a child of a role; its process.
            func child(_ role: String) throws -> Int32 {
                var found: Int32?
                _ = eventually(20_000) {
                    found = ProcessTable.children(of: running.pid, commandPrefix: "causeway \(role)").first
                    return found != nil || !running.isRunning
                }
                return try #require(found, "no \(role): \(running.errors)")
            }

            /// Sends the signal, and expects an end, with nothing left, within so long.
            func end(_ signal: Int32, seconds: Double, sourceLocation: SourceLocation = #_sourceLocation) -> Int32? {
                kill(running.pid, signal)
                let status = running.wait(seconds: seconds)?.status
                #expect(status != nil, "it does not end: \(running.errors)", sourceLocation: sourceLocation)
                #expect(
                    eventually(5000) { ProcessTable.mentioning("\(scratch.path)/causeway.").isEmpty },
                    sourceLocation: sourceLocation)
                let names = (try? FileManager.default.contentsOfDirectory(atPath: scratch.path)) ?? []
                #expect(names.filter { $0.hasPrefix("causeway.") }.isEmpty, "\(names)", sourceLocation: sourceLocation)
                return status
            }
        }

        @Test("a pair whose host is not up yet", arguments: [SIGTERM, SIGINT])
        func beforeTheHost(_ signal: Int32) throws {
            let scratch = try Scratch()
            let disk = "\(try scratch.makeImage(megabytes: 1)),raw,xvda,w"
            let strace = ["strace", "-D", "-f", "-qq", "-o", "/dev/null", "-e", "trace=listen"]
            let pair = try Started(
                ["--disk", disk, "--timeout", "60"], around: strace + ["-e", "inject=listen:delay_enter=60000000"], in: scratch)
            _ = try pair.child("host")
            #expect(pair.end(signal, seconds: 15) == 128 + signal)
        }

        @Test("a pair whose backend waits for a server that says nothing", arguments: [SIGTERM, SIGINT])
        func whileAttaching(_ signal: Int32) throws {
            let scratch = try Scratch()
            let server = try SilentServer(in: scratch)
            let pair = try Started(["--disk", "\(server.uri),raw,xvda,w", "--timeout", "60"], in: scratch)
            _ = try pair.child("frontend")
            #expect(pair.end(signal, seconds: 15) == 128 + signal)
        }

        @Test("a pair that waits for an answer of a host that stands still")
        func hostStandsStill() throws {
            let scratch = try Scratch()
            let server = try SilentServer(in: scratch)
            let pair = try Started(["--disk", "\(server.uri),raw,xvda,w", "--timeout", "60"], in: scratch)
            let host = try pair.child("host")
            _ = try pair.child("frontend")
            kill(host, SIGSTOP)
            #expect(pair.end(SIGTERM, seconds: 40) != nil)
        }

        @Test("a pair whose command does not want to end")
        func stubbornCommand() throws {
            let scratch = try Scratch()
            let disk = "\(try scratch.makeImage(megabytes: 1)),raw,xvda,w"
            let script = "trap '' TERM INT HUP; echo running; while :; do sleep 0.1; done"
            let pair = try Started(["--disk", disk, "--", "sh", "-c", script], in: scratch)
            #expect(eventually(20_000) { pair.running.output.contains("running") })
            #expect(pair.end(SIGTERM, seconds: 25) == 128 + SIGKILL)
        }

        @Test("a pair that is ending already, with a host that stands still")
        func whileEnding() throws {
            let scratch = try Scratch()
            let disk = "\(try scratch.makeImage(megabytes: 1)),raw,xvda,w"
            try #require(mkfifo("\(scratch.path)/go", 0o600) == 0)
            let pair = try Started(["--disk", disk, "--", "sh", "-c", "echo running; read x < '\(scratch.path)/go'"], in: scratch)
            #expect(eventually(20_000) { pair.running.output.contains("running") })
            let host = try pair.child("host")
            let frontend = try pair.child("frontend")
            kill(host, SIGSTOP)
            try Foundation.Data("x\n".utf8).write(to: URL(fileURLWithPath: "\(scratch.path)/go"))
            // Its frontend is asked to end, and the pair waits for the host.
            #expect(eventually(10_000) { kill(frontend, 0) != 0 })
            #expect(pair.running.isRunning)
            #expect(pair.end(SIGTERM, seconds: 40) != nil)
        }

        @Test("a pair at any moment of its life")
        func anyMoment() throws {
            let scratch = try Scratch()
            let disk = "\(try scratch.makeImage(megabytes: 1)),raw,xvda,w"
            for moment in 0..<16 {
                let pair = try Started(["--disk", disk, "--", "true"], in: scratch)
                sleepMilliseconds(Int64(moment) * 25)
                let status = pair.end(moment % 2 == 0 ? SIGTERM : SIGINT, seconds: 15)
                #expect(status == 0 || status.map { $0 > 128 } == true, "\(moment): \(pair.running.errors)")
            }
        }

        @Test("a benchmark: no file in memory, no directory, no process", arguments: [SIGTERM, SIGINT, SIGHUP])
        func benchmark(_ signal: Int32) throws {
            let scratch = try Scratch()
            let bench = try RunningProcess(
                [Tools.causeway, "bench", "block", "--runs", "100", "--depth", "8", "--size", "4"],
                environment: ["TMPDIR": scratch.path], in: scratch)
            let file = "/dev/shm/causeway-bench.\(bench.pid)"
            let directory = {
                try FileManager.default.contentsOfDirectory(atPath: scratch.path).filter { $0.hasPrefix("causeway.") }
            }
            #expect(eventually(20_000) { FileManager.default.fileExists(atPath: file) })
            #expect(eventually(20_000) { !ProcessTable.children(of: bench.pid, commandPrefix: "fio").isEmpty }, "\(bench.errors)")
            #expect(try directory().count == 1)
            // Whose output nobody reads goes on, and is still there to be asked.
            kill(bench.pid, SIGPIPE)
            kill(bench.pid, signal)
            let outcome = try #require(bench.wait(seconds: 15), "it does not end")
            #expect(outcome.status == 128 + signal && !outcome.errors.contains("causeway: bench"), "\(outcome)")
            #expect(!outcome.errors.contains("has ended") && !outcome.errors.contains("went away"), "\(outcome)")
            #expect(!FileManager.default.fileExists(atPath: file))
            #expect(try directory().isEmpty)
            #expect(ProcessTable.mentioning(scratch.path).isEmpty && ProcessTable.mentioning(file).isEmpty)
        }

        @Test(
            "a benchmark of networks that is interrupted at a terminal, with all that it started: no process (as root)",
            .enabled(if: Tools.isRoot && access("/dev/net/tun", F_OK) == 0))
        func networkBenchmark() throws {
            let scratch = try Scratch()
            let before = Set(ProcessTable.mentioning("bare-there"))
            let bench = try RunningProcess(
                [Tools.causeway, "bench", "network", "--only", "taps", "--runs", "50"], environment: ["TMPDIR": scratch.path],
                in: scratch)
            #expect(eventually(30_000) { !before.isSuperset(of: ProcessTable.mentioning("bare-there")) }, "\(bench.errors)")
            usleep(300_000)
            let forwarders = Set(ProcessTable.mentioning("bare-there")).subtracting(before)
            kill(-bench.pid, SIGINT)
            #expect(bench.wait(seconds: 20) != nil, "it does not end")
            #expect(eventually(5000) { forwarders.allSatisfy { kill($0, 0) != 0 } }, "\(forwarders)")
        }

        @Test(
            "the demo, whose reader goes away: no loop device, no mount, no process, no file (needs root)",
            .enabled(if: Tools.hasLoopDevices && FileManager.default.fileExists(atPath: "/dev/fuse")))
        func demo() throws {
            let scratch = try Scratch()
            // What it writes next the script writes itself, with the loop device still there.
            let script =
                "'\(Checkout.root)/tools/demo/disk.sh' '\(Tools.causeway)' 2>\(scratch.path)/errors | sed '/files came back/q'"
            let demo = try RunningProcess.run(
                ["sh", "-c", script], environment: ["TMPDIR": scratch.path], in: scratch, seconds: 120)
            #expect(demo.output.contains("files came back"), "\(demo)")
            let isGone = eventually(60_000) {
                ProcessTable.mentioning("tools/demo/disk.sh").isEmpty && ProcessTable.mentioning(scratch.path).isEmpty
            }
            #expect(isGone, "\(scratch.read("errors"))")
            let loops = try RunningProcess.run(["losetup", "--list", "--noheadings", "--output", "BACK-FILE"], in: scratch).output
            #expect(!loops.contains(scratch.path), "\(loops)")
            #expect(try !String(contentsOfFile: "/proc/self/mountinfo", encoding: .utf8).contains(scratch.path))
            let names = try FileManager.default.contentsOfDirectory(atPath: scratch.path)
            #expect(names.filter { $0.hasPrefix("tmp.") || $0.hasPrefix("causeway.") }.isEmpty, "\(names)")
        }
    }
}

/// Listens on a socket and answers nobody.
private final class SilentServer {
    private let process: RunningProcess
    let uri: String

    init(in scratch: Scratch) throws {
        let path = "\(scratch.path)/silent.sock"
        uri = "nbd+unix:///?socket=\(path)"
        let script = "import socket, time; s = socket.socket(socket.AF_UNIX); s.bind('\(path)'); s.listen(); time.sleep(1000)"
        process = try RunningProcess(["python3", "-c", script], in: scratch)
        try #require(eventually(10_000) { FileManager.default.fileExists(atPath: path) }, "\(process.errors)")
    }
}
