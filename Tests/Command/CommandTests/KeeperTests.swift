// Exports that outlive the process that serves them: it is killed under a guest's work, while the guest begins, and
// while it becomes another program.

import Foundation
import TestSupport
import Testing

/// The process that serves for `causeway export --keep`.
struct KeptExport {
    let keeper: RunningProcess

    /// Its number; nil: there is none at present.
    var worker: Int32? { workers.first }

    /// It, and then the one that waits for its turn.
    var workers: [Int32] {
        let path = "/proc/\(keeper.pid)/task/\(keeper.pid)/children"
        let children = String(decoding: FileManager.default.contents(atPath: path) ?? Data(), as: UTF8.self)
        return children.split(separator: " ").compactMap { Int32($0) }.filter { process in
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
            let sockets = "\(scratch.path)/sockets"
            let disk = ["--disk", "\(image),raw,xvda,w", "--queues", "2", "--socket-dir", sockets]
            let outcome = try boot(disk, qemu: rings, script, in: scratch) { export in
                #expect(eventually(60_000) { export.keeper.output.contains("begun") || !export.keeper.isRunning })
                for round in 0..<10 {
                    sleepMilliseconds(150 + Int64(round) * 13)
                    try export.kill()
                }
                print("ten kills under a guest's writes (\(rings)): pauses \(export.pauses) ms")
                // Another program in between, while the keeper stays.
                for _ in 0..<3 {
                    let upgrade = try RunningProcess.run([Tools.causeway, "upgrade", "--socket-dir", sockets], in: scratch)
                    #expect(upgrade.status == 0, "\(upgrade)")
                    print("upgraded under a keeper: \(upgrade.output)", terminator: "")
                    try export.kill()
                }
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

        /// An export of a disk of nothing, once it serves.
        private func keep(at socket: String, environment: [String: String] = [:], in scratch: Scratch) throws -> KeptExport {
            let export = KeptExport(
                keeper: try RunningProcess(
                    [Tools.causeway, "export", "--keep", "--disk", "null:1M,,xvda", "--socket", socket], environment: environment,
                    in: scratch))
            #expect(eventually(20_000) { FileManager.default.fileExists(atPath: socket) })
            return export
        }

        @Test("the next process is there before the one that serves is killed; without it one is started; an upgrade replaces it")
        func spare() throws {
            let scratch = try Scratch()
            let socket = "\(scratch.path)/x.sock"
            let export = try keep(at: socket, in: scratch)
            #expect(eventually(20_000) { export.workers.count == 2 }, "\(export.keeper.errors)")
            let first = export.workers
            try export.kill()
            #expect(export.worker == first.last)
            #expect(eventually(20_000) { export.workers.count == 2 })
            // One that has ended before its turn is done without.
            let second = export.workers
            #expect(kill(try #require(second.last), SIGKILL) == 0)
            #expect(eventually(20_000) { export.workers.count == 1 })
            try export.kill()
            #expect(try #require(export.worker) != second.last)
            // Of another program the next one has to be, too.
            #expect(eventually(20_000) { export.workers.count == 2 })
            let third = export.workers
            let upgrade = try RunningProcess.run([Tools.causeway, "upgrade", "--socket", socket], in: scratch)
            #expect(upgrade.status == 0, "\(upgrade)")
            #expect(eventually(20_000) { export.workers.count == 2 && export.workers.last != third.last })
            #expect(export.worker == third.first)
            // What the one that was replaced had said is not taken for the one that serves.
            try export.kill()
            #expect(!export.keeper.errors.contains("before it served"), "\(export.keeper.errors)")
            kill(export.keeper.pid, SIGTERM)
            #expect(export.keeper.wait(seconds: 20)?.status == 0)
            #expect(third.allSatisfy { kill($0, 0) != 0 })
        }

        @Test("VU57: a successor waits until nothing is in flight of the process before it")
        func VU57_waits() throws {
            let scratch = try Scratch()
            let socket = "\(scratch.path)/x.sock"
            let export = try keep(at: socket, in: scratch)
            let worker = try #require(export.worker)
            // Stands in for a request: as the kernel's own, it has the same open file (pidfd_getfd).
            let request = try RunningProcess(
                [
                    "python3", "-c",
                    """
                    import ctypes, os, time
                    def is_lock(number):
                        if "export-lock" not in os.readlink("/proc/\(worker)/fd/" + number): return False
                        return "FLOCK" in open("/proc/\(worker)/fdinfo/" + number).read()
                    number = [n for n in os.listdir("/proc/\(worker)/fd") if is_lock(n)][0]
                    held = ctypes.CDLL(None).syscall(438, os.pidfd_open(\(worker)), int(number), 0)
                    print("held" if held >= 0 else "refused", flush=True)
                    while not os.path.exists("\(scratch.path)/ended"): time.sleep(0.01)
                    """,
                ], in: scratch)
            #expect(eventually(20_000) { request.output == "held\n" }, "\(request.output)\(request.errors)")
            kill(worker, SIGKILL)
            sleepMilliseconds(1000)
            #expect(export.pauses.isEmpty, "\(export.keeper.errors)")
            _ = try scratch.makeFile("ended")
            #expect(eventually(20_000) { export.pauses.count == 1 }, "\(export.keeper.errors)")
            #expect(export.pauses.allSatisfy { $0 > 900 })
            kill(export.keeper.pid, SIGTERM)
            #expect(export.keeper.wait(seconds: 20)?.status == 0)
        }

        @Test("VU51: between two messages a kill leaves the connection, and in the midst of one it ends it")
        func VU51_midst() throws {
            let scratch = try Scratch()
            let socket = "\(scratch.path)/x.sock"
            let export = try keep(at: socket, in: scratch)
            let frontend = try RunningProcess(
                [
                    "python3", "-c",
                    """
                    import os, socket, struct, time
                    s = socket.socket(socket.AF_UNIX); s.connect("\(socket)"); s.settimeout(20)
                    def ask():
                        s.sendall(struct.pack("<III", 1, 1, 0))
                        print("answered" if len(s.recv(20)) == 20 else "ended", flush=True)
                    def wait(name):
                        while not os.path.exists("\(scratch.path)/" + name): time.sleep(0.01)
                    ask(); wait("first"); ask()
                    s.sendall(b"123456"); print("half", flush=True)
                    print("ended" if s.recv(20) == b"" else "answered", flush=True)
                    """,
                ], in: scratch)
            #expect(eventually(20_000) { frontend.output == "answered\n" }, "\(frontend.output)\(frontend.errors)")
            // Who was answered may know so before whoever answered has noted it.
            sleepMilliseconds(200)
            try export.kill()
            _ = try scratch.makeFile("first")
            #expect(eventually(20_000) { frontend.output == "answered\nanswered\nhalf\n" }, "\(frontend.output)\(frontend.errors)")
            // Taken from the socket by now.
            sleepMilliseconds(200)
            try export.kill()
            let outcome = try #require(frontend.wait(seconds: 25))
            #expect(outcome.output == "answered\nanswered\nhalf\nended\n", "\(outcome)")
            #expect(export.connections == 1)
            // One that is asked to end takes its sockets along, and the next has them again.
            try export.kill(SIGTERM)
            #expect(eventually(20_000) { FileManager.default.fileExists(atPath: socket) })
            kill(export.keeper.pid, SIGTERM)
            #expect(export.keeper.wait(seconds: 20)?.status == 0)
        }

        @Test(
            "VU53: a process that a front end's memory has ended is followed by one that lets that front end go",
            arguments: [true, false])
        func VU53_ended(isSealed: Bool) throws {
            let scratch = try Scratch()
            let socket = "\(scratch.path)/x.sock"
            let export = KeptExport(
                keeper: try RunningProcess(
                    [Tools.causeway, "export", "--keep", "--trust-memory", "--disk", "null:1M,,xvda", "--socket", socket],
                    environment: ["SWIFT_BACKTRACE": "enable=no"], in: scratch))
            #expect(eventually(20_000) { FileManager.default.fileExists(atPath: socket) })
            let frontend = try RunningProcess(
                [
                    "python3", "-c",
                    """
                    import fcntl, os, socket, struct
                    s = socket.socket(socket.AF_UNIX); s.connect("\(socket)"); s.settimeout(20)
                    memory = os.memfd_create("m", os.MFD_ALLOW_SEALING); os.ftruncate(memory, 4096)
                    if \(isSealed ? "True" : "False"): fcntl.fcntl(memory, 1033, 2)
                    socket.send_fds(s, [struct.pack("<IIIQQQQQ", 37, 1, 40, 0, 0, 4096, 0, 0)], [memory])
                    s.sendall(struct.pack("<III", 1, 1, 0))
                    print("answered" if len(s.recv(20)) == 20 else "ended", flush=True)
                    print("more" if s.recv(20) else "ended", flush=True)
                    """,
                ], in: scratch)
            #expect(eventually(20_000) { frontend.output == "answered\n" }, "\(frontend.output)\(frontend.errors)")
            sleepMilliseconds(200)
            try export.kill(SIGBUS)
            if isSealed {
                sleepMilliseconds(300)
                #expect(frontend.isRunning, "\(frontend.output)")
            } else {
                let outcome = try #require(frontend.wait(seconds: 25))
                #expect(outcome.output == "answered\nended\n", "\(outcome)")
                #expect(export.keeper.errors.contains("memory that it can make shorter"), "\(export.keeper.errors)")
            }
            // Once is enough.
            #expect(export.pauses.count == 1)
            kill(export.keeper.pid, SIGTERM)
            #expect(export.keeper.wait(seconds: 20)?.status == 0)
            kill(frontend.pid, SIGKILL)
        }

        @Test("VU52: a process that ends again and again is not started for ever, and that is said")
        func VU52_limit() throws {
            let scratch = try Scratch()
            // A backtrace takes a second and more of each end.
            let export = try keep(at: "\(scratch.path)/x.sock", environment: ["SWIFT_BACKTRACE": "enable=no"], in: scratch)
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
                (["--disk", "vdev=xvda,access=rw,target=nbd+unix:///?socket=/x"], 2, "--keep: xvda: an NBD server"),
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
