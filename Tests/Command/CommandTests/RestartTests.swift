import Foundation
import Testing
import TestSupport

/// What can come back is waited for: frontends of a pair, and NBD servers that are a disk's storage.
extension EndToEnd {
    @Suite("What comes back") struct Restarts {
        // MARK: Frontends

        @Test(
            "kill -9 of a frontend: it is started again, clients that connect meanwhile wait, every counter is where it was",
            arguments: [[], ["--journal"]])
        func frontendKilled(options: [String]) throws {
            let scratch = try Scratch()
            let image = try scratch.makeImage(megabytes: 8)
            let pair = try PairUnderTest(disks: ["\(image),raw,xvda,w"], options: options, in: scratch)
            let uri = pair.uri("xvda")
            func io(_ command: String) throws -> Outcome {
                try pair.run(["qemu-io", "-f", "raw", uri, "-c", command], seconds: 30)
            }
            #expect(try io("write -P 5 0 1M").status == 0)
            let counters = try pair.run([Tools.causeway, "status"]).output.components(separatedBy: "\n\n")[0]
            for round in 1...3 {
                let frontends = pair.processes(role: "frontend vbd xvda")
                #expect(frontends.count == 1)
                for pid in frontends { kill(pid, SIGKILL) }
                // Not one of them is turned away.
                let outcome = try io("read -P 5 0 1M")
                #expect(outcome.status == 0 && !outcome.output.contains("failed"), "\(round): \(outcome) \(pair.running.errors)")
            }
            let line = "pair: xvda: the frontend was killed by signal 9; starting it again\n"
            #expect(pair.running.errors.components(separatedBy: line).count == 4, "\(pair.running.errors)")
            var last = ""
            let isBack = try eventually(10_000) {
                last = try pair.run([Tools.causeway, "status"]).output.components(separatedBy: "\n\n")[0]
                return last == counters
            }
            #expect(isBack, "before:\n\(counters)\nnow:\n\(last)")
            #expect(pair.stop()?.status == 0)
        }

        @Test("a frontend that does not come up any more is given up, once and for all, and the pair goes on")
        func frontendFailing() throws {
            let scratch = try Scratch()
            let image = try scratch.makeImage(megabytes: 1)
            let running = try RunningProcess(
                [Tools.causeway, "pair", "--run-dir", "\(scratch.path)/run", "--disk", "\(image),raw,xvda,w"], in: scratch)
            try #require(eventually(20_000) { running.output.contains("xvda:") }, "\(running.errors)")
            // The first was of use, and counts for a tenth; none that is started from now on gets so far.
            let backends = ProcessTable.children(of: running.pid, commandPrefix: "causeway backend")
            try #require(backends.count == 1)
            for pid in backends { kill(pid, SIGSTOP) }
            let line = "pair: xvda: the frontend was killed by signal 10, again and again; its domain 1 is destroyed\n"
            let isGivenUp = eventually(60_000) {
                let frontends = ProcessTable.children(of: running.pid, commandPrefix: "causeway frontend vbd")
                for pid in frontends { kill(pid, SIGUSR1) }
                return running.errors.contains(line)
            }
            for pid in backends { kill(pid, SIGCONT) }
            #expect(isGivenUp, "\(running.errors)")
            #expect(running.errors.components(separatedBy: "was killed by signal 10; starting it again").count == 11)
            #expect(!FileManager.default.fileExists(atPath: "\(scratch.path)/run/xvda.sock"))
            #expect(running.isRunning)
            kill(running.pid, SIGTERM)
            #expect(running.wait(seconds: 20)?.status == 0)
        }

        @Test(
            "clients that hang up in the midst of many requests, again and again: nobody else is cut off, and the process goes on"
        )
        func clientsThatHangUp() throws {
            let scratch = try Scratch()
            let image = try scratch.makeImage(megabytes: 64)
            let pair = try PairUnderTest(disks: ["\(image),raw,xvda,w"], in: scratch)
            let good = try RunningProcess(
                [
                    "sh", "-c",
                    "exec fio --name=x --ioengine=nbd --uri=\"$uri\" --rw=randread --bs=4k --iodepth=4 --size=64m --time_based --runtime=4",
                ],
                environment: ["uri": pair.uri("xvda")], in: scratch)
            var rounds = 0
            while good.isRunning, rounds < 200 {
                try Self.hangUp(on: "\(pair.runDirectory)/xvda.sock")
                rounds += 1
            }
            let outcome = try #require(good.wait(seconds: 60))
            #expect(outcome.status == 0, "\(outcome.errors) \(pair.running.errors.suffix(2000))")
            #expect(
                rounds > 20 && !pair.running.errors.contains("starting it again"), "\(rounds) \(pair.running.errors.suffix(2000))")
            #expect(try pair.run(["nbdinfo", "--size", pair.uri("xvda")], seconds: 20).status == 0)
            #expect(pair.stop()?.status == 0)
        }

        /// Asks for 8 MiB in eight requests, and hangs up when the first answer begins.
        private static func hangUp(on path: String) throws {
            let connection = socket(AF_UNIX, Int32(SOCK_STREAM.rawValue), 0)
            defer { close(connection) }
            var address = sockaddr_un()
            address.sun_family = sa_family_t(AF_UNIX)
            withUnsafeMutableBytes(of: &address.sun_path) { $0.copyBytes(from: path.utf8) }
            let isConnected = withUnsafePointer(to: &address) {
                $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                    connect(connection, $0, socklen_t(MemoryLayout<sockaddr_un>.size)) == 0
                }
            }
            try #require(isConnected)
            func big(_ value: UInt64, _ count: Int) -> [UInt8] {
                (0..<count).map { UInt8(truncatingIfNeeded: value >> (8 * (count - 1 - $0))) }
            }
            func say(_ bytes: [UInt8]) { _ = send(connection, bytes, bytes.count, Int32(MSG_NOSIGNAL)) }
            func hear(_ count: Int) {
                var bytes = [UInt8](repeating: 0, count: count)
                _ = recv(connection, &bytes, count, Int32(MSG_WAITALL))
            }
            // The greeting, the flags, NBD_OPT_EXPORT_NAME with no name: 8 bytes of size and 2 of flags come back.
            hear(18)
            say(big(3, 4) + big(0x4948_4156_454F_5054, 8) + big(1, 4) + big(0, 4))
            hear(10)
            for index in 0..<8 as Range<UInt64> {
                say(big(0x2560_9513, 4) + big(0, 4) + big(index, 8) + big(index << 20, 8) + big(1 << 20, 4))
            }
            hear(1)
        }

        // MARK: Servers

        /// An nbdkit on a file: killed and started again as a test likes.
        private final class Server {
            let image: String
            private let listen: [String]
            private let scratch: Scratch
            private(set) var process: RunningProcess?
            let uri: String

            init(_ scratch: Scratch, port: Int? = nil, megabytes: Int = 64) throws {
                self.scratch = scratch
                image = try scratch.makeImage("server.img", megabytes: megabytes)
                let socket = "\(scratch.path)/server.sock"
                listen = port.map { ["--ipaddr", "127.0.0.1", "--port", "\($0)"] } ?? ["--unix", socket]
                uri = port.map { "nbd://127.0.0.1:\($0)/" } ?? "nbd+unix:///?socket=\(socket)"
            }

            func start() throws {
                unlink("\(scratch.path)/server.sock")
                process = try RunningProcess(["nbdkit", "--foreground"] + listen + ["file", image], in: scratch)
            }

            func end(_ signal: Int32) {
                guard let process else { return }
                kill(process.pid, signal)
                _ = process.wait(seconds: 10)
                self.process = nil
            }

            deinit { end(SIGKILL) }
        }

        /// A port that was free a moment ago.
        private static func freePort() -> Int {
            let probe = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
            defer { close(probe) }
            var address = sockaddr_in()
            address.sin_family = sa_family_t(AF_INET)
            address.sin_addr.s_addr = UInt32(0x7F00_0001).bigEndian
            var length = socklen_t(MemoryLayout<sockaddr_in>.size)
            return withUnsafeMutablePointer(to: &address) {
                $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                    bind(probe, $0, length) == 0 && getsockname(probe, $0, &length) == 0
                } ? Int(UInt16(bigEndian: $0.pointee.sin_port)) : 0
            }
        }

        @Test("a server that is restarted, killed or asked, under fio's verify job: not one error", arguments: [false, true])
        func serverRestarted(overTCP: Bool) throws {
            let scratch = try Scratch()
            let server = try Server(scratch, port: overTCP ? Self.freePort() : nil)
            try server.start()
            let pair = try PairUnderTest(disks: ["vdev=xvda,access=rw,target=\(server.uri)"], in: scratch)
            let job = verifyJob(megabytes: 64).map { $0.replacingOccurrences(of: "--minimal", with: "--minimal --rate=16m") }
            let fio = try RunningProcess(job, environment: ["uri": pair.uri("xvda")], in: scratch)
            var restarts = 0
            while fio.isRunning && restarts < 6 {
                usleep(300_000)
                server.end(restarts % 2 == 0 ? SIGKILL : SIGTERM)
                usleep(200_000)
                try server.start()
                restarts += 1
            }
            let outcome = try #require(fio.wait(seconds: 120), "fio hangs: \(pair.running.errors.suffix(2000))")
            #expect(outcome.status == 0, "\(outcome.errors.suffix(2000)) \(pair.running.errors.suffix(2000))")
            #expect(restarts >= 3)
            // Two restarts may be one to the backend, if the second comes before it has looked.
            func count(_ text: String) -> Int {
                pair.running.errors.components(separatedBy: "\(server.uri): the server is \(text)").count - 1
            }
            #expect(eventually { count("away") == count("back") }, "\(pair.running.errors)")
            #expect((1...restarts).contains(count("away")), "\(pair.running.errors)")
            #expect(pair.stop()?.status == 0)
        }

        @Test("a server that comes after its disk: the pair waits for it and says so, once")
        func serverComesLate() throws {
            let scratch = try Scratch()
            let server = try Server(scratch)
            let running = try RunningProcess(
                [
                    Tools.causeway, "pair", "--disk", "vdev=xvda,access=rw,target=\(server.uri)", "--", "sh", "-c",
                    "nbdinfo --size $uri",
                ],
                in: scratch)
            let wait = ": connect: No such file or directory; waited for, 30 s at most"
            #expect(eventually(20_000) { running.errors.contains(wait) }, "\(running.errors)")
            usleep(500_000)
            try server.start()
            let outcome = try #require(running.wait(seconds: 30))
            #expect(outcome.status == 0 && outcome.output.hasSuffix("\n67108864\n"), "\(outcome)")
            #expect(outcome.errors.components(separatedBy: wait).count == 2, "\(outcome.errors)")
        }

        @Test(
            "a server that stays away: requests fail after the limit that was given, by option or for the disk",
            arguments: [false, true])
        func serverStaysAway(forTheDisk: Bool) throws {
            let scratch = try Scratch()
            let server = try Server(scratch)
            try server.start()
            let pair = try PairUnderTest(
                disks: ["vdev=xvda,access=rw,\(forTheDisk ? "reconnect-delay=1," : "")target=\(server.uri)"],
                options: forTheDisk ? [] : ["--reconnect-delay", "1"], in: scratch)
            server.end(SIGKILL)
            let start = monotonicMilliseconds()
            let read = try pair.run(["qemu-io", "-f", "raw", pair.uri("xvda"), "-c", "read 0 4k"], seconds: 20)
            #expect(read.status == 1 && read.output.contains("Input/output error"), "\(read)")
            #expect((800...6000).contains(monotonicMilliseconds() - start))
            try server.start()
            #expect(
                try eventually(10_000) { try pair.run(["qemu-io", "-f", "raw", pair.uri("xvda"), "-c", "read 0 4k"]).status == 0 })
            #expect(pair.stop()?.status == 0)
        }

        @Test("a disk whose server is away is taken away by force at once, and its client is told")
        func detachWhileAway() throws {
            let scratch = try Scratch()
            let server = try Server(scratch)
            try server.start()
            let pair = try PairUnderTest(disks: ["vdev=xvda,access=rw,target=\(server.uri)"], in: scratch)
            server.end(SIGKILL)
            let client = try RunningProcess(["qemu-io", "-f", "raw", pair.uri("xvda"), "-c", "read 0 4k"], in: scratch)
            #expect(eventually(10_000) { pair.running.errors.contains("the server is away") }, "\(pair.running.errors)")
            usleep(500_000)
            let start = monotonicMilliseconds()
            let detach = try pair.run([Tools.causeway, "block-detach", "--force", "xvda"], seconds: 20)
            #expect(detach.status == 0, "\(detach)")
            #expect(client.wait(seconds: 10)?.status == 1)
            #expect(monotonicMilliseconds() - start < 1500)
            #expect(pair.stop()?.status == 0)
        }

        @Test("while a server is away: a pair ends at once, and so does its backend by hand", arguments: [false, true])
        func endsWhileAway(journal: Bool) throws {
            let scratch = try Scratch()
            let server = try Server(scratch)
            try server.start()
            let pair = try PairUnderTest(
                disks: ["vdev=xvda,access=rw,target=\(server.uri)"], options: journal ? ["--journal"] : [], in: scratch)
            server.end(SIGKILL)
            let client = try RunningProcess(["qemu-io", "-f", "raw", pair.uri("xvda"), "-c", "read 0 4k"], in: scratch)
            #expect(eventually(10_000) { pair.running.errors.contains("the server is away") }, "\(pair.running.errors)")
            // The backend ends, and leaves what waits to the next one.
            let start = monotonicMilliseconds()
            for pid in pair.processes(role: "backend") { kill(pid, SIGTERM) }
            #expect(
                eventually(10_000) { pair.running.errors.contains("pair: the backend exited with status 0; starting it again") })
            #expect(monotonicMilliseconds() - start < 3000)
            try server.start()
            let outcome = try #require(client.wait(seconds: 20), "\(pair.running.errors)")
            #expect(outcome.status == 0 && !outcome.output.contains("error"), "\(outcome) \(pair.running.errors)")
            server.end(SIGKILL)
            let hanging = try RunningProcess(["qemu-io", "-f", "raw", pair.uri("xvda"), "-c", "read 0 4k"], in: scratch)
            usleep(500_000)
            let end = monotonicMilliseconds()
            #expect(pair.stop()?.status == 0)
            #expect(monotonicMilliseconds() - end < 5000)
            _ = hanging.wait(seconds: 5)
            // It was asked for: no alarm.
            let alarms = ["the frontend's process is gone", "Operation canceled"].filter { pair.running.errors.contains($0) }
            #expect(alarms.isEmpty, "\(pair.running.errors)")
        }
    }
}
