// How commands end: what cannot be run, signals, readers that went away; and that an end that was asked for is quiet.

import Foundation
import Testing
import TestSupport

extension EndToEnd {
    @Suite("Ends") struct Ends {
        @Test("a COMMAND that is not there gives 127, one that cannot be run 126, before anything is started")
        func programs() throws {
            let scratch = try Scratch()
            let image = try scratch.makeImage(megabytes: 1)
            let script = try scratch.makeFile("script")
            try script.write(contentsOf: Foundation.Data("#!/nowhere/sh\n".utf8))
            try script.close()
            chmod("\(scratch.path)/script", 0o755)
            for (program, status, words) in [
                ("nosuch-program", 127, "nosuch-program: cannot run it: no such program in the PATH"),
                ("\(scratch.path)/none", 127, "\(scratch.path)/none: cannot run it: No such file or directory"),
                ("", 127, "cannot run it: no such program"),
                (image, 126, "\(image): cannot run it: Permission denied"),
                (scratch.path, 126, "\(scratch.path): cannot run it: no regular file"),
                ("\(image)/x", 127, "\(image)/x: cannot run it: Not a directory"),
                ("\(scratch.path)/script", 126, "script: cannot run it: No such file or directory"),
            ] as [(String, Int32, String)] {
                let outcome = try pair(["\(image),raw,xvda,w"], options: ["-q"], command: [program, "x"], in: scratch)
                #expect(outcome.status == status && outcome.errors.contains(words), "\(program): \(outcome)")
                #expect(outcome.errors.split(separator: "\n").count == 1 && outcome.output.isEmpty, "\(program): \(outcome)")
            }
            let started = try pair(["\(image),raw,xvda,w"], command: ["nosuch-program"], in: scratch)
            #expect(started.output.isEmpty && !started.errors.contains("serving"), "\(started)")
        }

        @Test("a program in the PATH that may not be run is passed over for one that may")
        func path() throws {
            let scratch = try Scratch()
            let image = try scratch.makeImage(megabytes: 1)
            for (directory, mode) in [("one", 0o644), ("two", 0o755)] as [(String, mode_t)] {
                mkdir("\(scratch.path)/\(directory)", 0o755)
                let file = try scratch.makeFile("\(directory)/tool")
                try file.write(contentsOf: Foundation.Data("#!/bin/sh\nexit 7\n".utf8))
                try file.close()
                chmod("\(scratch.path)/\(directory)/tool", mode)
            }
            let own = ProcessInfo.processInfo.environment["PATH"] ?? ""
            for (places, status) in [(["one", "two"], 7), (["one"], 126)] as [([String], Int32)] {
                let path = (places.map { "\(scratch.path)/\($0)" } + [own]).joined(separator: ":")
                let outcome = try RunningProcess.run(
                    [Tools.causeway, "pair", "--disk", "\(image),raw,xvda,w", "--", "tool"], environment: ["PATH": path],
                    in: scratch)
                #expect(outcome.status == status, "\(places): \(outcome)")
            }
        }

        @Test("-q: a pair and its processes say nothing, and without it nothing of an end that was asked for")
        func quiet() throws {
            let scratch = try Scratch()
            let image = try scratch.makeImage(megabytes: 1)
            let vifs = Tools.isRoot ? ["--vif", "mac=00:16:3e:01:02:0a"] : []
            for options in [["-q"], ["--quiet", "--journal"]] {
                let outcome = try pair(["\(image),raw,xvda,w"], options: options + vifs, command: ["true"], in: scratch)
                #expect(outcome.status == 0 && outcome.output.isEmpty && outcome.errors.isEmpty, "\(options): \(outcome)")
            }
            let loud = try pair(["\(image),raw,xvda,w"], options: vifs, command: ["true"], in: scratch)
            #expect(loud.status == 0 && loud.errors.contains("connected") && !loud.errors.contains("went away"), "\(loud)")
        }

        @Test("by hand: -q on each side, no alarm for a disk that is detached, one for a backend that is killed")
        func quietByHand() throws {
            let scratch = try Scratch()
            let image = try scratch.makeImage(megabytes: 1)
            let host = try ByHand(in: scratch)
            let backend = try host.start("backend", "-q")
            let attached = try host.run("block-attach", "-q", "\(image),raw,xvda,w")
            #expect(attached.status == 0 && attached.output.isEmpty && attached.errors.isEmpty, "\(attached)")
            let socket = "\(scratch.path)/x.sock"
            let frontend = try host.start("frontend", "vbd", "xvda", "-q", "--nbd", socket)
            #expect(eventually(10_000) { FileManager.default.fileExists(atPath: socket) }, "\(frontend.errors)")
            #expect(try eventually(10_000) { connected(try host.run("block-list")) }, "\(frontend.errors)")
            kill(backend.pid, SIGKILL)
            let next = try host.start("backend", "-q")
            #expect(eventually(10_000) { frontend.errors.contains("the backend went away") }, "an alarm is no chatter")
            #expect(try eventually(10_000) { connected(try host.run("block-list")) }, "\(frontend.errors)")
            let said = frontend.errors
            let detached = try host.run("block-detach", "-q", "xvda")
            #expect(detached.status == 0 && detached.output.isEmpty && detached.errors.isEmpty, "\(detached)")
            #expect(frontend.wait(seconds: 10) != nil)
            #expect(frontend.errors == said, "\(frontend.errors)")
            kill(next.pid, SIGTERM)
            #expect(next.wait(seconds: 10)?.errors == "")
        }

        /// Whether the one disk in a listing is in state 4.
        private func connected(_ listing: Outcome) -> Bool {
            listing.output.split(separator: "\n").last?.split(separator: " ").dropFirst(3).first == "4"
        }

        @Test("SIGQUIT ends whatever runs, without a crash report")
        func quit() throws {
            let scratch = try Scratch()
            let image = try scratch.makeImage(megabytes: 1)
            let pair = try PairUnderTest(disks: ["\(image),raw,xvda,w"], in: scratch)
            let top = try RunningProcess(
                ["sh", "-c", "ulimit -c 0; exec \(Tools.causeway) top"], environment: pair.environment, in: scratch)
            #expect(eventually(10_000) { top.output.contains("51712") }, "\(top.output) \(top.errors)")
            kill(top.pid, SIGQUIT)
            let ended = top.wait(seconds: 10)
            #expect(ended?.status == 128 + SIGQUIT && ended?.errors == "", "\(String(describing: ended))")
            // Asked to end, it does, and the pair starts another.
            let backend = try #require(pair.processes(role: "backend").first)
            kill(backend, SIGQUIT)
            #expect(eventually(10_000) { (pair.processes(role: "backend").first ?? backend) != backend }, "\(pair.running.errors)")
            kill(pair.running.pid, SIGQUIT)
            let outcome = pair.running.wait(seconds: 20)
            #expect(outcome?.status == 0, "\(String(describing: outcome))")
            #expect(!FileManager.default.fileExists(atPath: "\(pair.runDirectory)/xenstored.sock"))
            let errors = outcome?.errors ?? ""
            #expect(!errors.contains("Thread 0") && !errors.contains("rashed") && !errors.contains("acktrace"), "\(errors)")
        }

        @Test("a reader that has enough ends what prints without end; a place that takes nothing is an error")
        func output() throws {
            let scratch = try Scratch()
            let image = try scratch.makeImage(megabytes: 1)
            let pair = try PairUnderTest(disks: ["\(image),raw,xvda,w"], in: scratch)
            let head = try pair.run(
                ["bash", "-c", "\(Tools.causeway) top --interval 0.05 | head -1; echo ${PIPESTATUS[0]}"], seconds: 20)
            #expect(head.status == 0 && head.errors.isEmpty && head.output.hasSuffix("\n0\n"), "\(head)")
            for words in ["list", "status", "metrics", "block-list", "top --count 1", "--help", "--version"] {
                let closed = try pair.run(["bash", "-c", "set -o pipefail; \(Tools.causeway) \(words) | true"])
                #expect(closed.status == 0 && closed.errors.isEmpty, "\(words): \(closed)")
                let full = try pair.run(["sh", "-c", "\(Tools.causeway) \(words) > /dev/full"])
                let message = "causeway: standard output: No space left on device\n"
                #expect(full.status == 1 && full.errors == message, "\(words): \(full)")
            }
        }

        @Test("a disk's failures are a metric by operation and errno, and a line of status")
        func failures() throws {
            let scratch = try Scratch()
            let socket = "\(scratch.path)/n.sock"
            let server = try RunningProcess(
                [
                    "nbdkit", "-f", "-U", socket, "--filter=error", "memory", "16M", "error=ENOSPC", "error-pwrite-rate=1",
                    "error-zero-rate=1",
                ], in: scratch)
            #expect(eventually(10_000) { FileManager.default.fileExists(atPath: socket) }, "\(server.errors)")
            let pair = try PairUnderTest(disks: ["nbd+unix:///?socket=\(socket),,xvda,w"], in: scratch)
            let before = try pair.run([Tools.causeway, "metrics"])
            #expect(before.status == 0 && !before.output.contains("causeway_vbd_failures"), "\(before)")
            for _ in 0..<3 {
                let write = try pair.run(["qemu-io", "-f", "raw", pair.uri("xvda"), "-c", "write -P 7 0 4k"])
                #expect(write.output.contains("failed") || write.status != 0, "\(write)")
            }
            let sample = /causeway_vbd_failures_total{domain="1",device="51712",[^}]*,operation="write",errno="ENOSPC"} ([0-9]+)\n/
            var metrics = try pair.run([Tools.causeway, "metrics"])
            #expect(
                try eventually(10_000) {
                    metrics = try pair.run([Tools.causeway, "metrics"])
                    return UInt64(metrics.output.firstMatch(of: sample)?.1 ?? "") ?? 0 >= 3
                }, "\(metrics)")
            let help = "# HELP causeway_vbd_failures_total Operations that the disk failed, by what it said.\n"
            #expect(metrics.output.contains(help + "# TYPE causeway_vbd_failures_total counter\n"), "\(metrics)")
            let status = try pair.run([Tools.causeway, "status"])
            #expect(status.output.contains("failed-write-ENOSPC"), "\(status)")
            #expect(pair.stop()?.status == 0)
        }
    }
}
