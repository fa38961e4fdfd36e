import Foundation
import Testing

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

        @Test("kill -9 of a frontend: its domain is destroyed, the other disk serves on, every counter is where it was")
        func frontendKilled() throws {
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
            for pid in frontends { kill(pid, SIGKILL) }
            #expect(eventually { pair.running.errors.contains("xvdb: the frontend was killed by signal 9") })
            var last = ""
            #expect(
                try eventually {
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
            #expect(eventually(seconds: 20) { running.output.contains("xvda:") }, "\(running.errors)")
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
            #expect(eventually { ProcessTable.mentioning(pair.runDirectory).isEmpty })
        }
    }
}
