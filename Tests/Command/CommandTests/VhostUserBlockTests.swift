// The program that QEMU's interface for vhost-user programs asks for, and sockets that somebody else has opened.

import Foundation
import TestSupport
import Testing

extension EndToEnd {
    @Suite("the program vhost-user-blk") struct VhostUserBlockTests {
        private let scratch: Scratch
        /// The command, under the name that management software starts.
        private let program: String

        init() throws {
            scratch = try Scratch()
            program = "\(scratch.path)/vhost-user-blk"
            try FileManager.default.createSymbolicLink(atPath: program, withDestinationPath: Tools.causeway)
        }

        /// Opens a Unix socket at standard input's number 3 and becomes what it is told; QEMU is at its other end, or
        /// comes to it.
        private static let opener = """
            import os, socket, subprocess, sys
            kind, path, guest, program = sys.argv[1], sys.argv[2], sys.argv[3], sys.argv[4:]
            if kind == "listening":
                ours = socket.socket(socket.AF_UNIX); ours.bind(path); ours.listen()
            else:
                listener = socket.socket(socket.AF_UNIX); listener.bind(path); listener.listen()
            os.dup2((ours if kind == "listening" else listener).fileno(), 3)
            qemu = subprocess.Popen(["sh", "-c", guest])
            if kind == "connected": os.dup2(listener.accept()[0].detach(), 3)
            os.set_inheritable(3, True)
            back = subprocess.Popen(program, close_fds=False)
            status = qemu.wait()
            if kind == "listening": back.terminate()
            print("qemu", status, "program", back.wait(timeout=10), "socket", os.path.exists(path))
            """

        @Test("a guest reads its disk through a socket that somebody else has opened", arguments: ["listening", "connected"])
        func openSocket(kind: String) throws {
            let image = try scratch.makeImage(megabytes: 8)
            try FileHandle(forWritingTo: URL(fileURLWithPath: image)).write(contentsOf: Foundation.Data("found\n".utf8))
            let socket = "\(scratch.path)/there"
            let guest =
                "\(Checkout.root)/tools/guest/run \(try VirtioGuest.directory.get()) "
                + "'head -c 5 /dev/vda; echo; echo ro $(cat /sys/block/vda/ro)' -chardev socket,id=c,path=\(socket) "
                + "-device vhost-user-blk-pci,chardev=c"
            let outcome = try RunningProcess.run(
                [
                    "python3", "-c", Self.opener, kind, socket, guest, program, "--fd=3", "--blk-file=\(image)", "--read-only",
                ], in: scratch, seconds: 100)
            #expect(outcome.output.contains("found") && outcome.output.contains("ro 1"), "\(outcome)")
            // Who opened the socket removes it.
            #expect(outcome.output.contains("qemu 0 program 0 socket True"), "\(outcome)")
        }

        /// Hands a listening socket to an export, has that become another build, and then is its first front end.
        private static let handed = """
            import os, socket, subprocess, sys, time
            path, directory, program = sys.argv[1:]
            ours = socket.socket(socket.AF_UNIX); ours.bind(path); ours.listen()
            os.dup2(ours.fileno(), 3); os.set_inheritable(3, True)
            back = subprocess.Popen([program, "export", "-q", "--fd", "3", "--socket-dir", directory, "--disk", "null:1M,,xvda"], close_fds=False)
            while not os.path.exists(directory + "/export.sock") and back.poll() is None: time.sleep(0.01)
            upgrade = subprocess.run([program, "upgrade", "--socket-dir", directory])
            front = socket.socket(socket.AF_UNIX); front.connect(path)
            front.sendall(bytes([1, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0]))
            print("upgrade", upgrade.returncode, "answer", len(front.recv(20, socket.MSG_WAITALL)))
            back.terminate()
            print("program", back.wait(timeout=10), "socket", os.path.exists(path))
            """

        @Test("a socket that somebody else has opened goes along to another build")
        func upgradedSocket() throws {
            let outcome = try RunningProcess.run(
                ["python3", "-c", Self.handed, "\(scratch.path)/there", "\(scratch.path)/sockets", Tools.causeway], in: scratch,
                seconds: 30)
            #expect(outcome.output.hasSuffix("upgrade 0 answer 20\nprogram 0 socket True\n"), "\(outcome)")
        }

        @Test("it listens where it is told, writes, becomes another build, and ends at once when it is asked to")
        func socketPath() throws {
            let image = try scratch.makeImage(megabytes: 8)
            let socket = "\(scratch.path)/x.sock"
            let running = try RunningProcess([program, "--socket-path", socket, "--blk-file", image], in: scratch)
            #expect(eventually(10_000) { FileManager.default.fileExists(atPath: "\(socket).export") }, "\(running.errors)")
            let upgrade = try RunningProcess.run([Tools.causeway, "upgrade", "--socket", socket], in: scratch)
            #expect(upgrade.status == 0, "\(upgrade)")
            let guest = try RunningProcess.run(
                [
                    "\(Checkout.root)/tools/guest/run", try VirtioGuest.directory.get(),
                    "echo there | dd of=/dev/vda bs=512 conv=sync oflag=direct 2>&1", "-chardev", "socket,id=c,path=\(socket)",
                    "-device", "vhost-user-blk-pci,chardev=c",
                ], in: scratch, seconds: 100)
            #expect(guest.status == 0, "\(guest)")
            kill(running.pid, SIGTERM)
            #expect(running.wait(seconds: 1)?.status == 0)
            #expect(!FileManager.default.fileExists(atPath: socket))
            #expect(try FileHandle(forReadingFrom: URL(fileURLWithPath: image)).read(upToCount: 5) == Foundation.Data("there".utf8))
        }

        @Test("it says what it can, whatever else is given, and what it cannot make of the rest")
        func commandLine() throws {
            let image = try scratch.makeImage(megabytes: 1)
            for more in [[], ["--socket-path", "/nowhere/s"], ["--not-known", "--fd", "x"]] {
                let outcome = try RunningProcess.run([program, "--print-capabilities"] + more, in: scratch)
                let said = try JSONSerialization.jsonObject(with: Foundation.Data(outcome.output.utf8)) as? [String: Any]
                #expect(outcome.status == 0 && said?["type"] as? String == "block", "\(outcome)")
                #expect(Set(said?["features"] as? [String] ?? []) == ["read-only", "blk-file"], "\(outcome)")
            }
            let socket = "\(scratch.path)/s"
            let cases: [([String], Int32, String)] = [
                (["--blk-file", image], 2, "--socket-path"), (["--socket-path", socket], 2, "--blk-file"),
                (["--socket-path", socket, "--fd", "0", "--blk-file", image], 2, "--socket-path"),
                (["--socket-path", socket, "--blk-file", image, "--num-queues"], 2, "--num-queues"),
                (["--socket-path", socket, "--blk-file", "\(image).not"], 1, "\(image).not"),
                (["--fd", "77", "--blk-file", image], 2, "77: no such descriptor"),
                (["--fd", "1", "--blk-file", image], 2, "1: no Unix stream socket"),
            ]
            for (arguments, status, words) in cases {
                let outcome = try RunningProcess.run([program] + arguments, in: scratch, seconds: 20)
                #expect(outcome.status == status && outcome.errors.contains(words), "\(arguments): \(outcome)")
            }
            let outcome = try RunningProcess.run(
                [Tools.causeway, "export", "--disk", "null:1M,,xvda", "--fd", "0", "--keep"], in: scratch, seconds: 20)
            #expect(outcome.status == 2 && outcome.errors.contains("--fd"), "\(outcome)")
        }
    }
}
