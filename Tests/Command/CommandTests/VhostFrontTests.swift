// A virtio driver in QEMU and a frontend of Xen's on one backend: a disk, and a cable between both worlds.

import Foundation
import TestSupport
import Testing

extension EndToEnd {
    @Suite("front=vhost-user") struct VhostFrontTests {
        @Test(
            "one backend has a QEMU guest's disk and a cable from it to Xen's netfront; killed, upgraded, and its disk grows",
            .enabled(if: Tools.isRoot, "needs root"))
        func twoWorlds() throws {
            let scratch = try Scratch()
            let guest = try VirtioGuest.directory.get()
            let image = try scratch.makeImage(megabytes: 32)
            let script = """
                ip link set eth0 up; ip addr add 10.78.0.2/24 dev eth0
                ping -c 1 -w 10 10.78.0.1 | grep -c '1 packets received' | sed 's/^/first /'
                dd if=/dev/urandom of=/t bs=1M count=8 2>/dev/null
                echo begun
                for n in 1 2 3 4 5 6 7 8; do dd if=/t of=/dev/vda bs=64k oflag=direct 2>/dev/null || echo failed; sleep 0.5; done
                dd if=/dev/vda bs=1M count=8 iflag=direct 2>/dev/null | md5sum | sed 's/^/read /'
                md5sum </t | sed 's/^/wrote /'
                for i in $(seq 40); do [ $(cat /sys/block/vda/size) != 65536 ] && break; sleep 0.5; done
                echo size $(cat /sys/block/vda/size)
                ping -c 3 -w 15 10.78.0.1 | grep -c ' 0% packet loss' | sed 's/^/last /'
                dmesg | grep -c 'is not a head\\|I/O error' | sed 's/^/errors /'
                """
            try scratch.makeFile("script").write(contentsOf: Foundation.Data(script.utf8))
            let run = "\(scratch.path)/run"
            let command = """
                ip netns exec $CAUSEWAY_NETNS_0 ip addr add 10.78.0.1/24 dev eth0
                ip netns exec $CAUSEWAY_NETNS_0 ip link set eth0 up
                \(Checkout.root)/tools/guest/run \(guest) "$(cat \(scratch.path)/script)" $qemu
                """
            let pair = try RunningProcess(
                [
                    Tools.causeway, "pair", "--journal", "--run-dir", run, "--disk", "\(image),raw,xvda,w,front=vhost-user",
                    "--vif",
                    "mac=00:16:3e:01:02:07,peer=00:16:3e:01:02:08,front=vhost-user", "--", "sh", "-c", command,
                ], in: scratch)
            defer { if pair.isRunning { kill(pair.pid, SIGTERM) } }
            #expect(eventually(60_000) { pair.output.contains("begun") || !pair.isRunning }, "\(pair.output) \(pair.errors)")
            let list = try RunningProcess.run([Tools.causeway, "device", "list", "--run-dir", run], in: scratch)
            let phases = Dictionary(
                list.output.split(separator: "\n").dropFirst().compactMap { line -> (String, String)? in
                    let words = line.split(separator: " ").map(String.init)
                    return words.count == 4 ? (words[0], words[3]) : nil
                }
            ) { $1 }
            #expect(phases["vhost-1/51712"] == "running" && phases["vbd-1/51712"] == "waiting", "\(list)")
            #expect(phases["vif-2/0"] == "running" && phases["vhost-3/1"] == "running", "\(list)")
            try changeBackends(of: pair, at: run, in: scratch)
            try FileHandle(forWritingTo: URL(fileURLWithPath: image)).truncate(atOffset: 64 << 20)
            let outcome = try #require(pair.wait(seconds: 120), "\(pair.output) \(pair.errors)")
            #expect(outcome.status == 0, "\(outcome)")
            // A disk and an interface: each has connected once.
            #expect(outcome.errors.components(separatedBy: "a front end connected").count - 1 == 2, "\(outcome.errors)")
            let words = Dictionary(
                outcome.output.components(separatedBy: .newlines).compactMap { line -> (String, String)? in
                    let parts = line.split(separator: " ", maxSplits: 1)
                    return parts.count == 2 ? (String(parts[0]), String(parts[1])) : nil
                }
            ) { $1 }
            #expect(words["first"] == "1" && words["last"] == "1", "\(outcome)")
            #expect(words["read"] != nil && words["read"] == words["wrote"], "\(outcome)")
            #expect(words["size"] == "131072" && words["errors"] == "0" && !outcome.output.contains("failed"), "\(outcome)")
        }

        /// Kills and upgrades the backend in turn; what it cannot become is refused, or undone.
        private func changeBackends(of pair: RunningProcess, at run: String, in scratch: Scratch) throws {
            for round in 1...3 {
                let backend = try #require(ProcessTable.children(of: pair.pid, commandPrefix: "causeway backend").first)
                kill(backend, SIGKILL)
                #expect(eventually(20_000) { Self.pauses(pair).count == round }, "\(pair.errors)")
                sleepMilliseconds(300)
                let upgrade = try RunningProcess.run([Tools.causeway, "upgrade", "--run-dir", run], in: scratch)
                #expect(upgrade.status == 0, "\(upgrade)")
                print("a backend of two worlds, \(upgrade.output)", terminator: "")
                sleepMilliseconds(300)
            }
            print("three kills of a backend of two worlds: pauses \(Self.pauses(pair)) ms")
            // The last one is gone when it is to be run: by then front ends have been put by, and are taken up again.
            let vanishing = "\(scratch.path)/vanishing"
            try Foundation.Data("#!/bin/sh\necho 2\nrm \"$0\"\n".utf8).write(to: URL(fileURLWithPath: vanishing))
            chmod(vanishing, 0o755)
            for (program, reason) in [("/bin/true", "cannot go on with"), (vanishing, "No such file")] {
                let upgrade = try RunningProcess.run(
                    [Tools.causeway, "upgrade", "--run-dir", run, "--program", program], in: scratch)
                #expect(upgrade.status == 1 && upgrade.errors.contains(reason), "\(upgrade)")
            }
        }

        @Test("a writable disk behind NBD goes with an upgrade and not beyond a kill, which is said; its front end comes anew")
        func writableNBD() throws {
            let scratch = try Scratch()
            let server = try RunningProcess(["nbdkit", "-f", "-U", "\(scratch.path)/nbd", "memory", "1M"], in: scratch)
            defer { kill(server.pid, SIGTERM) }
            #expect(eventually(10_000) { FileManager.default.fileExists(atPath: "\(scratch.path)/nbd") })
            let disk = "vdev=xvda,access=rw,front=vhost-user,target=nbd+unix:///?socket=\(scratch.path)/nbd"
            let pair = try PairUnderTest(disks: [disk], options: ["--journal"], in: scratch)
            let frontend = try RunningProcess(
                [
                    "python3", "-c",
                    """
                    import os, socket, struct, time
                    def connect():
                        end = time.time() + 20
                        while True:
                            s = socket.socket(socket.AF_UNIX); s.settimeout(20)
                            try: s.connect("\(pair.runDirectory)/1-51712.sock"); return s
                            except OSError:
                                if time.time() > end: raise
                                time.sleep(0.05)
                    def ask(s):
                        s.sendall(struct.pack("<III", 1, 1, 0))
                        print("answered" if len(s.recv(20)) == 20 else "ended", flush=True)
                    s = connect(); ask(s)
                    while not os.path.exists("\(scratch.path)/upgraded"): time.sleep(0.01)
                    ask(s)
                    print("ended" if s.recv(20) == b"" else "answered", flush=True)
                    while not os.path.exists("\(scratch.path)/killed"): time.sleep(0.01)
                    ask(connect())
                    """,
                ], in: scratch)
            #expect(eventually(20_000) { frontend.output == "answered\n" }, "\(frontend.output)\(frontend.errors)")
            let upgrade = try pair.run([Tools.causeway, "upgrade"])
            #expect(upgrade.status == 0, "\(upgrade)")
            _ = try scratch.makeFile("upgraded")
            #expect(eventually(20_000) { frontend.output == "answered\nanswered\n" }, "\(frontend.output)\(frontend.errors)")
            let said = "vbd 1/51712: its front end would not outlive this process: an NBD server may still be at a write"
            #expect(pair.running.errors.components(separatedBy: said).count - 1 == 2, "\(pair.running.errors)")
            kill(try #require(pair.processes(role: "backend").first), SIGKILL)
            #expect(eventually(20_000) { Self.pauses(pair.running).count == 1 }, "\(pair.running.errors)")
            _ = try scratch.makeFile("killed")
            let outcome = try #require(frontend.wait(seconds: 25))
            #expect(outcome.output == "answered\nanswered\nended\nanswered\n", "\(outcome) \(pair.running.errors)")
            #expect(pair.stop()?.status == 0)
        }

        /// How long front ends have waited for a backend each time, in milliseconds.
        private static func pauses(_ pair: RunningProcess) -> [Double] {
            pair.errors.components(separatedBy: "front ends have waited for ").dropFirst().compactMap { rest in
                Double(rest.prefix { $0 != " " })
            }
        }

        @Test("where front= has no meaning that is said")
        func words() throws {
            let scratch = try Scratch()
            let image = try scratch.makeImage(megabytes: 1)
            let cases: [([String], String)] = [
                (["export", "--disk", "\(image),raw,xvda,w,front=xen"], "--disk: xvda: front: export has no frontends of Xen's"),
                (["export", "--vif", "front=xen"], "--vif: front: for Xen's guests; export has none"),
                (["block-attach", "\(image),raw,xvda,w,front=vhost-user"], "block-attach: front: for `pair`"),
                (["network-attach", "front=vhost-user"], "network-attach: front: for `pair`"),
                (["pair", "--vif", "front=qemu"], "front: `qemu` is neither xen nor vhost-user (column 7)"),
                (
                    ["pair", "--backend-command", "true", "--disk", "\(image),raw,xvda,w,front=vhost-user"],
                    "--backend-command: only Causeway's own backend serves front=vhost-user"
                ),
            ]
            for (arguments, text) in cases {
                let outcome = try RunningProcess.run([Tools.causeway] + arguments, in: scratch)
                #expect(outcome.status == 2 && outcome.errors.contains(text), "\(arguments): \(outcome)")
            }
        }
    }
}
