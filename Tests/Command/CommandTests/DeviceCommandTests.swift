// causeway device: running devices of Xen's and of QEMU's, looked at, paused, told what to do, saved and loaded.

import Foundation
import TestSupport
import Testing

extension EndToEnd {
    @Suite("device") struct DeviceCommandTests {
        private func device(_ pair: PairUnderTest, _ words: String...) throws -> Outcome {
            try pair.run([Tools.causeway, "device"] + words)
        }

        @Test("a disk of Xen's is paused under load, stands still, goes on, and its frontend sees no error")
        func pausedDisk() throws {
            let scratch = try Scratch()
            let image = try scratch.makeImage(megabytes: 16)
            let pair = try PairUnderTest(disks: ["\(image),raw,xvda,w"], in: scratch)
            let disk = "vbd-1/51712"
            let list = try device(pair, "list")
            #expect(
                list.output.split(separator: "\n").last?.split(separator: " ").map(String.init) == [
                    disk, "block", "xen", "running",
                ])
            let running = try device(pair, "show", disk)
            #expect(running.output.contains("identity.model") && !running.output.contains("queue.0"), "\(running)")
            let job = [
                "fio", "--name=job", "--ioengine=nbd", "--uri=\(pair.uri("xvda"))", "--rw=randwrite", "--bs=4k", "--iodepth=8",
                "--size=8m", "--verify=crc32c", "--verify_backlog=64", "--verify_state_save=0", "--loops=40",
            ]
            let load = try RunningProcess(job, environment: pair.environment, in: scratch)
            defer { if load.isRunning { kill(load.pid, SIGKILL) } }
            let writes = { try #require(UInt64(try device(pair, "get", disk, "counters.writes").output.dropLast())) }
            #expect(try eventually(30_000) { try writes() > 100 })
            for _ in 0..<3 {
                #expect(try device(pair, "do", disk, "pause").status == 0)
                let still = try device(pair, "show", disk, "queue").output
                #expect(still.contains("queue.0.slots") && still.contains(/queue\.0\.in-flight +0\n/), "\(still)")
                let before = try writes()
                sleepMilliseconds(300)
                #expect(try device(pair, "show", disk, "queue").output == still)
                #expect(try writes() == before)
                #expect(load.isRunning)
                #expect(try device(pair, "do", disk, "resume").status == 0)
                #expect(try eventually(10_000) { try writes() > before }, "it does not go on")
            }
            let ended = try #require(load.wait(seconds: 60), "\(load.output)")
            #expect(ended.status == 0, "\(ended)")
            #expect(pair.stop()?.status == 0)
        }

        @Test("a pause that would last is given up, and the disk goes on")
        func busy() throws {
            let scratch = try Scratch()
            let image = try scratch.makeImage(megabytes: 1)
            let slow = "\(scratch.path)/slow.sock"
            let server = try RunningProcess(
                ["nbdkit", "-f", "-U", slow, "--filter=delay", "file", image, "wdelay=3"], in: scratch)
            defer { kill(server.pid, SIGKILL) }
            #expect(eventually(10_000) { FileManager.default.fileExists(atPath: slow) })
            let pair = try PairUnderTest(disks: ["vdev=xvda,access=rw,target=nbd+unix:///?socket=\(slow)"], in: scratch)
            let write = try RunningProcess(
                ["qemu-io", "-f", "raw", pair.uri("xvda"), "-c", "write -P 7 0 4k"], environment: pair.environment, in: scratch)
            defer { if write.isRunning { kill(write.pid, SIGKILL) } }
            // Its request is taken long before the server is done with it.
            sleepMilliseconds(1000)
            let pause = try device(pair, "do", "vbd-1/51712", "pause", "200")
            #expect(pause.status == 1)
            #expect(
                pause.errors == "causeway: device: vbd-1/51712: 1 requests were still in work after 200 ms; it goes on\n",
                "\(pause)")
            #expect(try device(pair, "list").output.contains("running"))
            #expect(try #require(write.wait(seconds: 30)).status == 0)
            // One that is cancelled fails, long before the server is done with it.
            let other = try RunningProcess(
                ["qemu-io", "-f", "raw", pair.uri("xvda"), "-c", "write -P 8 0 4k"], environment: pair.environment, in: scratch)
            defer { if other.isRunning { kill(other.pid, SIGKILL) } }
            sleepMilliseconds(1000)
            #expect(try device(pair, "do", "vbd-1/51712", "cancel").status == 0)
            let failed = try #require(other.wait(seconds: 2))
            #expect(failed.output.contains("Input/output error"), "\(failed)")
            #expect(pair.stop()?.status == 0)
        }

        @Test("counters go on in another backend's device; a disk that differs is refused")
        func saveAndLoad() throws {
            let scratch = try Scratch()
            let image = try scratch.makeImage(megabytes: 4)
            let disk = "vbd-1/51712"
            let state = "\(scratch.path)/state"
            do {
                let pair = try PairUnderTest(disks: ["\(image),raw,xvda,w"], in: scratch)
                let io = try pair.run(["qemu-io", "-f", "raw", pair.uri("xvda"), "-c", "write -P 7 0 64k", "-c", "flush"])
                #expect(io.status == 0)
                let early = try device(pair, "save", disk)
                #expect(early.status == 1 && early.errors.contains("only while it is paused"), "\(early)")
                #expect(try device(pair, "do", disk, "pause").status == 0)
                let saved = try pair.run(["sh", "-c", "\(Tools.causeway) device save \(disk) >\(state)"])
                #expect(saved.status == 0, "\(saved)")
                #expect(pair.stop()?.status == 0)
            }
            let bytes = try Foundation.Data(contentsOf: URL(fileURLWithPath: state))
            #expect(Array(bytes.prefix(4)) == Array("CWDV".utf8))
            let elsewhere = try Scratch()
            let other = try elsewhere.makeImage(megabytes: 8)
            let pair = try PairUnderTest(disks: ["\(image),raw,xvda,w", "\(other),raw,xvdb,w"], in: scratch)
            func load(_ disk: String) throws -> Outcome {
                try pair.run(["sh", "-c", "\(Tools.causeway) device load \(disk) <\(state)"])
            }
            #expect(try load(disk).errors.contains("runs, and a state is loaded only while it is paused"))
            for device in [disk, "vbd-2/51728"] { #expect(try self.device(pair, "do", device, "pause").status == 0) }
            let differs = try load("vbd-2/51728")
            #expect(differs.errors.contains("its geometry.bytes is 4194304, and here it is 8388608"), "\(differs)")
            let loaded = try load(disk)
            #expect(loaded.status == 0, "\(loaded)")
            #expect(try device(pair, "get", disk, "counters.written-bytes").output == "65536\n")
            #expect(try device(pair, "get", disk, "counters.queues").output == "1\n")
            // One number everywhere.
            #expect(
                try pair.run([Tools.causeway, "metrics"]).output.contains(
                    /causeway_vbd_written_bytes_total{domain="1",device="51712",[^}]*} 65536\n/))
            #expect(try device(pair, "do", disk, "resume").status == 0)
            #expect(try pair.run(["qemu-io", "-f", "raw", pair.uri("xvda"), "-c", "write -P 7 0 4k"]).status == 0)
            #expect(try device(pair, "get", disk, "counters.written-bytes").output == "69632\n")
            #expect(pair.stop()?.status == 0)
        }

        @Test("what cannot be done says why", .enabled(if: Tools.isRoot, "needs root"))
        func refusals() throws {
            let scratch = try Scratch()
            let image = try scratch.makeImage(megabytes: 1)
            let pair = try PairUnderTest(disks: ["\(image),raw,xvda,w"], vifs: ["mac=00:16:3e:01:02:07"], in: scratch)
            let (disk, vif) = ("vbd-1/51712", "vif-2/0")
            let lines: [([String], Int32, String)] = [
                (["do", disk, "close"], 1, "a frontend is let go through the store"),
                (["do", disk, "announce"], 1, "it is no interface"),
                (["do", disk, "kick", "7"], 1, "vbd-1/51712: no queue 7; it has 1"),
                (["do", disk, "resume"], 1, "is not paused"),
                (["do", disk, "frob"], 2, "`frob` is no command; there are pause"),
                (["do", "vbd-9/1", "pause"], 1, "vbd-9/1: no such device here; there are vbd-1/51712, vif-2/0"),
                (["get", disk, "queue.0.slots"], 1, "no attribute queue.0.slots now"),
                (["show", disk, "queue"], 1, "nothing of queue can be read now"),
                (["do", disk, "reset"], 1, "begins anew with its frontend only: `causeway block-detach`"),
                (["do", disk, "trace", "on"], 1, "`causeway top`"), (["do", disk, "handover", "/s"], 1, "`causeway upgrade`"),
                (["do", disk, "trace"], 2, "trace: takes `on` or `off`"), (["do", vif, "reset"], 1, "`causeway network-detach`"),
                (["do", vif, "trace", "on"], 1, "`causeway trace`"),
                (["do", vif, "cancel"], 1, "nothing in work between two turns"),
                (["do", vif, "handover", "/s"], 1, "`causeway upgrade`"),
                (["do", vif, "flush"], 1, "keeps nothing that could be flushed"),
                (["do", vif, "announce"], 1, "announces itself"), (["do", vif, "close"], 1, "network-detach"),
            ]
            for (words, status, text) in lines {
                let outcome = try pair.run([Tools.causeway, "device"] + words)
                #expect(outcome.status == status && outcome.errors.contains(text), "\(words): \(outcome)")
            }
            for command in ["flush", "refresh", "kick", "inject", "cancel"] {
                let outcome = try device(pair, "do", disk, command)
                #expect(outcome.status == 0, "\(command): \(outcome)")
            }
            #expect(try device(pair, "do", vif, "inject").status == 0)
            #expect(pair.stop()?.status == 0)
            let alone = try RunningProcess.run([Tools.causeway, "device", "--run-dir", scratch.path, "list"], in: scratch)
            #expect(alone.status != 0)
            let nobody = try RunningProcess.run([Tools.causeway, "device", "list", "--run-dir", scratch.path], in: scratch)
            #expect(nobody.status == 1 && nobody.errors.contains("nobody answers there for devices"), "\(nobody)")
        }

        @Test(
            "an interface of Xen's is paused: nothing comes through, then everything does", .enabled(if: Tools.isRoot, "needs root")
        )
        func pausedInterface() throws {
            let scratch = try Scratch()
            let pair = try PairUnderTest(disks: [], vifs: ["mac=00:16:3e:01:02:07"], in: scratch)
            let vif = "vif-1/0"
            let (tap, namespace) = ("cw\(pair.running.pid).0", "causeway-\(pair.running.pid)-0")
            for command in [
                ["ip", "addr", "add", "10.77.0.1/24", "dev", tap],
                ["ip", "-n", namespace, "addr", "add", "10.77.0.2/24", "dev", "eth0"],
            ] { #expect(try pair.run(command).status == 0) }
            let ping = { (seconds: String) in try pair.run(["ping", "-q", "-c", "1", "-W", seconds, "10.77.0.2"]).status }
            #expect(try eventually(10_000) { try ping("1") == 0 })
            #expect(try device(pair, "do", vif, "pause").status == 0)
            #expect(try ping("1") != 0)
            let still = try device(pair, "show", vif, "queue").output
            #expect(still.contains("queue.0.slots") && still.contains("queue.1.next-request"), "\(still)")
            sleepMilliseconds(200)
            #expect(try device(pair, "show", vif, "queue").output == still)
            #expect(try device(pair, "do", vif, "resume").status == 0)
            #expect(try device(pair, "list").output.contains("running"))
            #expect(try ping("5") == 0)
            #expect(pair.stop()?.status == 0)
        }

        @Test("a QEMU guest's disk is paused in the midst of its writes, looked at, and goes on")
        func pausedGuest() throws {
            let scratch = try Scratch()
            let directory = try VirtioGuest.directory.get()
            let image = try scratch.makeImage(megabytes: 64)
            let script = """
                dd if=/dev/urandom of=/t bs=1M count=16 2>/dev/null
                echo begun
                for n in 1 2 3 4 5 6; do dd if=/t of=/dev/vda bs=64k oflag=direct 2>/dev/null || echo failed; done
                dd if=/dev/vda bs=1M count=16 iflag=direct 2>/dev/null | md5sum | sed 's/^/read /'
                md5sum </t | sed 's/^/wrote /'
                dmesg | grep -c 'is not a head\\|I/O error' | sed 's/^/errors /'
                """
            let file = try scratch.makeFile("script")
            try file.write(contentsOf: Foundation.Data(script.utf8))
            let sockets = "\(scratch.path)/sockets"
            let command = "\(Checkout.root)/tools/guest/run \(directory) \"$(cat \(scratch.path)/script)\" $qemu"
            let running = try RunningProcess(
                [
                    Tools.causeway, "export", "--quiet", "--disk", "\(image),raw,xvda,w", "--socket-dir", sockets, "--", "sh", "-c",
                    command,
                ], in: scratch)
            func device(_ words: String...) throws -> Outcome {
                try RunningProcess.run([Tools.causeway, "device"] + words + ["--run-dir", sockets], in: scratch)
            }
            #expect(eventually(60_000) { running.output.contains("begun") || !running.isRunning })
            for _ in 0..<3 {
                let pause = try device("do", "xvda", "pause")
                #expect(pause.status == 0, "\(pause)")
                let shown = try device("show", "xvda")
                #expect(shown.output.contains("queue.0.next-available") && shown.output.contains("memory.0.bytes"), "\(shown)")
                sleepMilliseconds(200)
                #expect(try device("get", "xvda", "queue.0.next-available").status == 0)
                #expect(try device("do", "xvda", "resume").status == 0)
                sleepMilliseconds(200)
                #expect(try device("do", "xvda", "reset").status == 0)
            }
            #expect(try device("do", "xvda", "flush").status == 0)
            let outcome = try #require(running.wait(seconds: 150), "\(running.output)")
            #expect(outcome.status == 0, "\(outcome)")
            let words = Dictionary(
                outcome.output.components(separatedBy: .newlines).compactMap { line -> (String, String)? in
                    let parts = line.split(separator: " ", maxSplits: 1)
                    return parts.count == 2 ? (String(parts[0]), String(parts[1])) : nil
                }
            ) { $1 }
            #expect(words["read"] != nil && words["read"] == words["wrote"], "\(outcome)")
            #expect(words["errors"] == "0" && !outcome.output.contains("failed"))
        }
    }
}
