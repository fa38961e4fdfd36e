// Exports that outlive the process that serves them: it is killed under a guest's work, while the guest begins, and
// while it becomes another program.

import Foundation
import TestSupport
import Testing

/// The process that serves for `causeway export --keep`.
struct KeptExport {
    let keeper: RunningProcess

    /// Its number; nil: there is none at present.
    var worker: Int32? {
        let path = "/proc/\(keeper.pid)/task/\(keeper.pid)/children"
        let children = String(decoding: FileManager.default.contents(atPath: path) ?? Data(), as: UTF8.self)
        return children.split(separator: " ").compactMap { Int32($0) }.first { process in
            let line = String(decoding: FileManager.default.contents(atPath: "/proc/\(process)/cmdline") ?? Data(), as: UTF8.self)
            return line.contains("--kept-in")
        }
    }

    /// Kills it, and waits until another one serves.
    func kill(_ signal: Int32 = SIGKILL) throws {
        let before = pauses.count
        guard let worker else { throw TestFailure("nobody serves: \(keeper.errors)") }
        #expect(Glibc.kill(worker, signal) == 0)
        #expect(eventually(20_000) { pauses.count > before || !keeper.isRunning }, "\(keeper.errors)")
    }

    /// How long front ends have waited each time, in milliseconds.
    var pauses: [Double] {
        keeper.errors.split(separator: "\n").compactMap { line in
            guard let start = line.range(of: "have waited for ")?.upperBound else { return nil }
            return Double(line[start...].prefix { $0 != " " })
        }
    }

    /// How often a front end has connected.
    var connections: Int { keeper.errors.components(separatedBy: "a front end connected").count - 1 }
}

extension EndToEnd {
    @Suite("exports that are kept") struct KeeperTests {
        /// Runs a script in a guest with this export, while `meanwhile` runs.
        private func boot(
            _ export: [String], qemu: String = "", _ script: String, in scratch: Scratch,
            meanwhile: (KeptExport) throws -> Void
        ) throws -> Outcome {
            try scratch.makeFile("script").write(contentsOf: Foundation.Data(script.utf8))
            let command = "\(try VirtioGuest.command(in: scratch.path)) \(qemu)"
            let running = try RunningProcess(
                [Tools.causeway, "export", "--keep"] + export + ["--", "sh", "-c", command], in: scratch)
            try meanwhile(KeptExport(keeper: running))
            guard let outcome = running.wait(seconds: 100) else { throw TestFailure("\(running.output)\n\(running.errors)") }
            return outcome
        }

        @Test(
            "VU50: a process that is killed ten times under a guest's writes costs pauses and nothing else, and no end of file",
            arguments: ["", "-global vhost-user-blk.packed=on"])
        func VU50_killed(rings: String) throws {
            let scratch = try Scratch()
            let image = try scratch.makeImage(megabytes: 64)
            let script = """
                dd if=/dev/urandom of=/t bs=1M count=4 2>/dev/null
                echo begun
                for i in 0 1 2 3; do
                    (while [ ! -e /stop ]; do
                        dd if=/t of=/dev/vda bs=16k seek=$((i * 1024)) oflag=direct 2>/dev/null || echo failed
                        dd if=/dev/vda bs=1M skip=$((i * 16)) count=4 iflag=direct 2>/dev/null | cmp - /t || echo differs
                        dd if=/dev/zero of=/dev/vda bs=64k count=64 seek=$((i * 256)) oflag=direct 2>/dev/null || echo failed
                    done) &
                done
                while [ $(cat /sys/block/vda/size) = 131072 ]; do sleep 0.2; done
                : >/stop
                wait
                dmesg | grep -c 'is not a head\\|I/O error' | sed 's/^/errors /'
                """
            let outcome = try boot(["--disk", "\(image),raw,xvda,w", "--queues", "2"], qemu: rings, script, in: scratch) { export in
                #expect(eventually(60_000) { export.keeper.output.contains("begun") || !export.keeper.isRunning })
                for round in 0..<10 {
                    sleepMilliseconds(150 + Int64(round) * 13)
                    try export.kill()
                }
                print("ten kills under a guest's writes (\(rings)): pauses \(export.pauses) ms")
                #expect(export.connections == 1, "\(export.keeper.errors)")
                // The disk grows, which ends the guest's work.
                try FileHandle(forWritingTo: URL(fileURLWithPath: image)).truncate(atOffset: 65 << 20)
            }
            #expect(outcome.status == 0 && outcome.output.contains("errors 0"), "\(outcome)")
            #expect(!outcome.output.contains("failed") && !outcome.output.contains("differ"), "\(outcome)")
            #expect(outcome.errors.contains("are done again"), "nothing was in flight at any of the kills: \(outcome)")
        }

        @Test("VU51: a process that is killed over and over while a guest begins: the guest has a working disk in the end")
        func VU51_killedAtSetUp() throws {
            let scratch = try Scratch()
            let image = try scratch.makeImage(megabytes: 64)
            let socket = "\(scratch.path)/x.sock"
            let export = KeptExport(
                keeper: try RunningProcess(
                    [Tools.causeway, "export", "--keep", "--disk", "\(image),raw,xvda,w", "--socket", socket], in: scratch))
            #expect(eventually(20_000) { FileManager.default.fileExists(atPath: socket) })
            let script = """
                dd if=/dev/urandom of=/t bs=1M count=4 2>/dev/null
                dd if=/t of=/dev/vda bs=64k oflag=direct 2>/dev/null || echo failed
                dd if=/dev/vda bs=1M count=4 iflag=direct 2>/dev/null | cmp - /t && echo same
                dmesg | grep -c 'is not a head\\|I/O error' | sed 's/^/errors /'
                """
            let guest = try RunningProcess(
                [
                    "\(Checkout.root)/tools/guest/run", try VirtioGuest.directory.get(), script, "-chardev",
                    "socket,id=c,path=\(socket),reconnect=1", "-device", "vhost-user-blk-pci,chardev=c,num-queues=2",
                ], in: scratch)
            var kills = 0
            while guest.isRunning, kills < 40, !guest.output.contains("same") {
                sleepMilliseconds(Int64(20 + kills * 7 % 60))
                if let worker = export.worker, kill(worker, SIGKILL) == 0 { kills += 1 }
            }
            let outcome = try #require(guest.wait(seconds: 100), "\(guest.output)\n\(export.keeper.errors)")
            #expect(outcome.output.contains("same") && outcome.output.contains("errors 0"), "\(outcome)\n\(export.keeper.errors)")
            print("\(kills) kills while a guest began; its QEMU connected \(export.connections) times")
            kill(export.keeper.pid, SIGTERM)
            #expect(export.keeper.wait(seconds: 20)?.status == 0)
            #expect(!FileManager.default.fileExists(atPath: socket))
        }

        @Test("a kept export becomes another program, and goes on as before where that one ends before it serves")
        func upgraded() throws {
            let scratch = try Scratch()
            // It says what it can go on with, and ends at its work.
            let broken = "\(scratch.path)/broken"
            try Foundation.Data("#!/bin/sh\n[ \"$2\" = --succession-format ] && exec \(Tools.causeway) \"$@\"\nexit 3\n".utf8)
                .write(to: URL(fileURLWithPath: broken))
            chmod(broken, 0o755)
            let outcome = try RunningProcess.run(
                [
                    Tools.causeway, "export", "--keep", "--disk", "null:1M,,xvda", "--vif", "null", "--", "sh", "-c",
                    """
                    \(Tools.causeway) upgrade; echo status $?
                    \(Tools.causeway) upgrade --program \(broken); echo status $?
                    sleep 1
                    \(Tools.causeway) upgrade; echo status $?
                    [ -S $CAUSEWAY_VHOST_xvda ] && [ -S $CAUSEWAY_VHOST_0 ] && echo there
                    exit 9
                    """,
                ], environment: ["TMPDIR": scratch.path], in: scratch, seconds: 30)
            #expect(outcome.status == 9, "\(outcome)")
            let statuses = outcome.output.split(separator: "\n").filter { $0.hasPrefix("status") }
            #expect(statuses == ["status 0", "status 1", "status 0"], "\(outcome)")
            #expect(outcome.output.contains("there"), "\(outcome)")
            #expect(outcome.errors.contains("refused: the new program exited with status 3 before it served"), "\(outcome)")
            let left = try FileManager.default.contentsOfDirectory(atPath: scratch.path).filter { $0.hasPrefix("causeway.") }
            #expect(left.isEmpty, "\(left)")
        }

        @Test("VU52: a process that ends again and again is not started for ever, and that is said")
        func VU52_limit() throws {
            let scratch = try Scratch()
            let export = KeptExport(
                keeper: try RunningProcess(
                    [Tools.causeway, "export", "--keep", "--disk", "null:1M,,xvda", "--socket", "\(scratch.path)/x.sock"],
                    in: scratch))
            #expect(eventually(20_000) { FileManager.default.fileExists(atPath: "\(scratch.path)/x.sock") })
            let end = Date().addingTimeInterval(35)
            while export.keeper.isRunning, Date() < end {
                if let worker = export.worker { kill(worker, SIGSEGV) }
                sleepMilliseconds(3)
            }
            let outcome = try #require(export.keeper.wait(seconds: 5))
            #expect(outcome.status == 1 && outcome.errors.contains("it is not started any more"), "\(outcome)")
        }

        @Test("what cannot be is said once, by the process that serves, and its status is the command's")
        func mistakes() throws {
            let scratch = try Scratch()
            for (arguments, status, words) in [
                (["--disk", "\(scratch.path)/not,raw,xvda,w"], 1, "\(scratch.path)/not"),
                (["--disk", "null:1M,,xvda", "--queues", "0"], 2, "--queues"),
            ] as [([String], Int32, String)] {
                let outcome = try RunningProcess.run(
                    [Tools.causeway, "export", "--keep"] + arguments + ["--", "true"], in: scratch, seconds: 20)
                #expect(outcome.status == status && outcome.errors.contains(words), "\(arguments): \(outcome)")
                let lines = outcome.errors.split(separator: "\n").filter { $0.hasPrefix("causeway:") || $0.hasPrefix("Error:") }
                #expect(lines.count == 1, "\(arguments): \(outcome)")
            }
        }
    }
}
