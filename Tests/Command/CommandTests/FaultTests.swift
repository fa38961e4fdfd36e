import Foundation
import Testing
import TestSupport

extension EndToEnd {
    @Suite("When processes die") struct Faults {
        @Test("kill -9 of the backend, again and again, under fio's verify job: not one error")
        func backendKilled() throws {
            let scratch = try Scratch()
            let image = try scratch.makeImage(megabytes: 256)
            let pair = try PairUnderTest(disks: ["\(image),raw,xvda,w"], in: scratch)
            let fio = try RunningProcess(verifyJob(megabytes: 256), environment: ["uri": pair.uri("xvda")], in: scratch)
            var kills = 0
            while fio.isRunning && kills < 20 {
                usleep(200_000)
                for backend in pair.processes(role: "backend") {
                    kill(backend, SIGKILL)
                    kills += 1
                }
            }
            let outcome = try #require(fio.wait(seconds: 180), "fio hangs: \(pair.running.errors.suffix(2000))")
            #expect(outcome.status == 0, "\(outcome.errors.suffix(2000)) \(pair.running.errors.suffix(2000))")
            #expect(kills >= 3)
            #expect(pair.stop()?.status == 0)
        }

        @Test("a frontend that is asked to end: its domain is destroyed, the other disk serves on, every counter is where it was")
        func frontendEnded() throws {
            let scratch = try Scratch()
            let first = "\(try scratch.makeImage("a.img", megabytes: 8)),raw,xvda,w"
            let second = "\(try scratch.makeImage("b.img", megabytes: 8)),raw,xvdb,w"
            let baseline = try {
                let pair = try PairUnderTest(disks: [first], in: scratch)
                let counters = try Self.counters(pair)
                #expect(pair.stop()?.status == 0)
                return counters
            }()
            let pair = try PairUnderTest(disks: [first, second], in: scratch)
            #expect(try Self.counters(pair) != baseline)
            let frontends = pair.processes(role: "frontend vbd xvdb")
            #expect(frontends.count == 1)
            let write = try pair.run(["qemu-io", "-f", "raw", pair.uri("xvdb"), "-c", "write 0 4M"])
            #expect(write.status == 0)
            for pid in frontends { kill(pid, SIGTERM) }
            #expect(
                eventually(10_000) {
                    pair.running.errors.contains("xvdb: the frontend exited with status 0; its domain 2 is destroyed")
                })
            // Nobody keeps its clients waiting.
            #expect(try pair.run(["nbdinfo", "--size", pair.uri("xvdb")], seconds: 5).status == 1)
            var last = ""
            #expect(
                try eventually(10_000) {
                    last = try Self.counters(pair)
                    return last == baseline
                }, "baseline:\n\(baseline)\nnow:\n\(last)")
            let other = try pair.run([
                "qemu-io", "-f", "raw", pair.uri("xvda"), "-c", "write -P 7 0 1M", "-c", "read -P 7 0 1M",
            ])
            #expect(other.status == 0 && !other.output.contains("failed"), "\(other.output) \(other.errors)")
            let store = try pair.run(["xenstore-ls", "-f", "/"])
            #expect(!store.output.contains("/local/domain/2") && !store.output.contains("/vbd/2/"), "\(store.output)")
            #expect(pair.stop()?.status == 0)
        }

        @Test("kill -9 of the host by hand: backend and frontend end with one line each, and a client is told")
        func hostKilled() throws {
            let scratch = try Scratch()
            let image = try scratch.makeImage(megabytes: 16)
            let bench = try DriversByHand(disk: image, in: scratch)
            let client = try RunningProcess(
                [
                    "fio", "--name=x", "--ioengine=nbd", "--uri=\(bench.uri)", "--rw=randwrite", "--bs=4k", "--size=8M",
                    "--time_based", "--runtime=60",
                ], in: scratch)
            usleep(1_000_000)
            #expect(client.isRunning, "\(client.output) \(client.errors)")
            kill(bench.host.pid, SIGKILL)
            let backend = try #require(bench.backend.wait(seconds: 5), "the backend lives on: \(bench.backend.errors)")
            #expect(backend.status == 1)
            #expect(backend.errors.hasSuffix("\ncauseway: backend: the host has ended\n"), "\(backend.errors)")
            let frontend = try #require(bench.frontend.wait(seconds: 5), "the frontend lives on: \(bench.frontend.errors)")
            #expect(frontend.status == 1, "a service manager would not start it again")
            #expect(frontend.errors.hasSuffix("causeway: frontend: vbd 51712: the host has ended\n"), "\(frontend.errors)")
            let outcome = try #require(client.wait(seconds: 20), "the client hangs")
            #expect(outcome.status != 0, "\(outcome)")
        }

        @Test("kill -9 of a frontend by hand: all that was mapped and bound of it is given back at once, and the next connects")
        func frontendKilledByHand() throws {
            let scratch = try Scratch()
            let bench = try DriversByHand(disk: try scratch.makeImage(megabytes: 16), in: scratch)
            let write = { (uri: String) in
                try RunningProcess.run(["qemu-io", "-f", "raw", uri, "-c", "write 0 1M"], in: scratch, seconds: 20)
            }
            #expect(try write(bench.uri).status == 0)
            #expect(try bench.held().allSatisfy { $0 > 0 })
            kill(bench.frontend.pid, SIGKILL)
            var left: [Int] = []
            let isGivenBack = try eventually(1000) {
                left = try bench.held()
                return left == [0, 0, 0, 0]
            }
            #expect(isGivenBack, "\(left)")
            #expect(bench.backend.errors.contains("vbd 1/51712: the frontend's process is gone; everything of it is given back\n"))
            let next = try bench.startFrontend("y.sock")
            #expect(try write("nbd+unix:///?socket=\(scratch.path)/y.sock").status == 0, "\(next.errors) \(bench.backend.errors)")
        }

        @Test(
            "a kernel short of memory or room, again and again, on either side's way to the host: not one error",
            arguments: ["recvmsg:error=EAGAIN", "recvmsg:error=ENOMEM", "sendmsg:error=ENOBUFS"], [false, true])
        func kernelIsShort(fault: String, ofHost: Bool) throws {
            let scratch = try Scratch()
            let image = try scratch.makeImage(megabytes: 64)
            let strace = [
                "strace", "-D", "-f", "-qq", "-o", "/dev/null", "-e", "trace=sendmsg,recvmsg", "-e", "inject=\(fault):when=12+9",
            ]
            let bench = try DriversByHand(disk: image, in: scratch, around: [ofHost ? "host" : "backend": strace])
            let fio = try RunningProcess.run(
                verifyJob(megabytes: 16), environment: ["uri": bench.uri], in: scratch, seconds: 120)
            #expect(fio.status == 0, "\(fio.errors.suffix(1000)) \(bench.backend.errors) \(bench.frontend.errors)")
            #expect(bench.backend.isRunning && bench.frontend.isRunning)
        }

        /// A host, a backend and one disk's frontend, each started by hand.
        private final class DriversByHand {
            let host, backend, frontend: RunningProcess
            let uri: String
            private let scratch: Scratch
            private var others: [RunningProcess] = []
            private var environment: [String: String] { ["CAUSEWAY_RUN_DIR": "\(scratch.path)/run"] }

            /// - Parameter around: words before a role's command.
            init(disk: String, in scratch: Scratch, around: [String: [String]] = [:]) throws {
                self.scratch = scratch
                let directory = "\(scratch.path)/run"
                let environment = ["CAUSEWAY_RUN_DIR": directory]
                let start = { (role: String, words: [String]) in
                    try RunningProcess(
                        (around[role] ?? []) + [Tools.causeway, role] + words, environment: environment, in: scratch)
                }
                uri = "nbd+unix:///?socket=\(scratch.path)/x.sock"
                host = try start("host", [])
                try #require(eventually(10_000) { FileManager.default.fileExists(atPath: "\(directory)/xenstored.sock") })
                let serving = try start("backend", ["--no-persistent"])
                backend = serving
                try #require(eventually(20_000) { serving.errors.contains("serving domain 0's vbd") }, "\(serving.errors)")
                let attach = try RunningProcess.run(
                    [Tools.causeway, "block-attach", "\(disk),raw,xvda,w"], environment: environment, in: scratch, seconds: 20)
                try #require(attach.status == 0, "\(attach.errors)")
                let front = try start("frontend", ["vbd", "xvda", "--nbd", "\(scratch.path)/x.sock"])
                frontend = front
                try #require(
                    eventually(20_000) { FileManager.default.fileExists(atPath: "\(scratch.path)/x.sock") }, "\(front.errors)")
            }

            /// One more frontend of the disk, once it serves.
            func startFrontend(_ socket: String) throws -> RunningProcess {
                let path = "\(scratch.path)/\(socket)"
                let made = try RunningProcess(
                    [Tools.causeway, "frontend", "vbd", "xvda", "--nbd", path], environment: environment, in: scratch)
                others.append(made)
                try #require(eventually(20_000) { FileManager.default.fileExists(atPath: path) }, "\(made.errors)")
                return made
            }

            /// What of a frontend's the host counts: grants, mappings, ports, runs.
            func held() throws -> [Int] {
                let text = try RunningProcess.run(
                    [Tools.causeway, "status", "--json"], environment: environment, in: scratch, seconds: 20
                ).output
                let status = try JSONSerialization.jsonObject(with: Foundation.Data(text.utf8)) as? [String: Any]
                let host = try #require((status?["usage"] as? [[String: Any]])?.first)
                return ["grants", "mappings", "ports", "runs"].map { host[$0] as? Int ?? -1 }
            }

            deinit {
                for process in others + [frontend, backend, host] where process.isRunning {
                    kill(process.pid, SIGTERM)
                    _ = process.wait(seconds: 10)
                }
            }
        }

        private static func counters(_ pair: PairUnderTest) throws -> String {
            let outcome = try pair.run([Tools.causeway, "status"])
            #expect(outcome.status == 0, "\(outcome.errors)")
            return outcome.output
        }

        @Test(
            "SIGTERM, SIGINT and SIGHUP end a pair cleanly: no process, no directory",
            arguments: [SIGTERM, SIGINT, SIGHUP])
        func interrupted(_ signal: Int32) throws {
            let scratch = try Scratch()
            let image = try scratch.makeImage(megabytes: 4)
            let running = try RunningProcess(
                [Tools.causeway, "pair", "--disk", "\(image),raw,xvda,w"], environment: ["TMPDIR": scratch.path],
                in: scratch)
            #expect(eventually(20_000) { running.output.contains("xvda:") }, "\(running.errors)")
            kill(running.pid, signal)
            #expect(running.wait(seconds: 20)?.status == 0)
            #expect(ProcessTable.mentioning(scratch.path).isEmpty)
            let left = try FileManager.default.contentsOfDirectory(atPath: scratch.path).filter {
                $0.hasPrefix("causeway.")
            }
            #expect(left.isEmpty)
        }

        @Test("kill -9 of the pair itself: its processes end with it")
        func pairKilled() throws {
            let scratch = try Scratch()
            let image = try scratch.makeImage(megabytes: 4)
            let pair = try PairUnderTest(disks: ["\(image),raw,xvda,w"], in: scratch)
            #expect(pair.processes(role: "").count == 3)
            kill(pair.running.pid, SIGKILL)
            _ = pair.running.wait(seconds: 10)
            #expect(eventually(10_000) { ProcessTable.mentioning(pair.runDirectory).isEmpty })
        }
    }
}
