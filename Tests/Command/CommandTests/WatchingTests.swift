// causeway top and metrics: what is shown of a pair's devices.

import Foundation
import Testing
import TestSupport

extension EndToEnd {
    @Suite("status, top and metrics") struct Watching {
        /// Metrics by name and labels, each with a type and words, none twice.
        private static func parse(_ text: String) throws -> [String: UInt64] {
            var types: [String: String] = [:]
            var helped: Set<String> = []
            var samples: [String: UInt64] = [:]
            for line in text.split(separator: "\n") {
                let words = line.split(separator: " ", maxSplits: 3).map(String.init)
                if words.starts(with: ["#", "HELP"]) {
                    #expect(words.count == 4 && helped.insert(words[2]).inserted, "\(line)")
                } else if words.starts(with: ["#", "TYPE"]) {
                    #expect(types.updateValue(words[3], forKey: words[2]) == nil, "\(line)")
                } else {
                    let name = String(line.prefix { $0 != "{" && $0 != " " })
                    #expect(name.wholeMatch(of: /causeway_[a-z_]+/) != nil, "\(line)")
                    #expect(helped.contains(name) && types[name] == (name.hasSuffix("_total") ? "counter" : "gauge"), "\(line)")
                    let value = try #require(line.split(separator: " ").last.flatMap { UInt64($0) }, "\(line)")
                    #expect(samples.updateValue(value, forKey: String(line.prefix { $0 != " " })) == nil, "\(line)")
                }
            }
            return samples
        }

        @Test("metrics are Prometheus's text, and say of a disk and an interface what status says")
        func metrics() throws {
            let scratch = try Scratch()
            let image = try scratch.makeImage(megabytes: 4)
            let vifs = Tools.isRoot ? ["mac=00:16:3e:01:02:07"] : []
            let pair = try PairUnderTest(disks: ["\(image),raw,xvda,w"], vifs: vifs, in: scratch)
            let io = try pair.run(["qemu-io", "-f", "raw", pair.uri("xvda"), "-c", "write -P 7 0 1M", "-c", "read -P 7 0 1M"])
            #expect(io.status == 0)
            // An interface's pages are mapped a moment after it is connected.
            let mapped = /causeway_vif_mapped_pages{.*} [1-9]/
            var outcome = try pair.run([Tools.causeway, "metrics"])
            _ = try eventually(10_000) {
                outcome = try pair.run([Tools.causeway, "metrics"])
                return !Tools.isRoot || outcome.output.firstMatch(of: mapped) != nil
            }
            #expect(outcome.status == 0, "\(outcome.errors)")
            let samples = try Self.parse(outcome.output)
            let disk = "{domain=\"1\",device=\"51712\"}"
            #expect(samples["causeway_vbd_written_bytes_total" + disk] ?? 0 >= 1 << 20, "\(outcome.output)")
            #expect(samples["causeway_vbd_read_bytes_total" + disk] ?? 0 >= 1 << 20)
            #expect(samples["causeway_vbd_queues" + disk] == 1)
            #expect(samples["causeway_host_domains"] == (Tools.isRoot ? 3 : 2))
            #expect(samples["causeway_domain_grants{domain=\"1\"}"] ?? 0 > 0)
            if Tools.isRoot {
                #expect(samples["causeway_vif_mapped_pages{domain=\"2\",device=\"0\"}"] ?? 0 > 0)
                #expect(samples["causeway_vif_transmit_errors_total{domain=\"2\",device=\"0\"}"] == 0)
            }
            let status = try pair.run([Tools.causeway, "status", "--json"])
            let json = try #require(try JSONSerialization.jsonObject(with: Foundation.Data(status.output.utf8)) as? [String: Any])
            let devices = try #require(json["devices"] as? [[String: Any]])
            let shown = try #require(devices.first { $0["device"] as? String == "vbd-1/51712" })
            #expect(shown["written-bytes"] as? UInt64 == samples["causeway_vbd_written_bytes_total" + disk])
            #expect(pair.stop()?.status == 0)
        }

        @Test("top shows a disk's rates under load, and goes on when the backend is killed")
        func top() throws {
            let scratch = try Scratch()
            let image = try scratch.makeImage(megabytes: 16)
            let pair = try PairUnderTest(disks: ["\(image),raw,xvda,w"], in: scratch)
            let load = try RunningProcess(
                [
                    "fio", "--name=load", "--ioengine=nbd", "--uri=\(pair.uri("xvda"))", "--rw=randread", "--bs=4k", "--iodepth=8",
                    "--size=16m", "--time_based", "--runtime=8",
                ], environment: pair.environment, in: scratch)
            defer { if load.isRunning { kill(load.pid, SIGKILL) } }
            let top = try RunningProcess(
                [Tools.causeway, "top", "--interval", "0.5", "--count", "8"], environment: pair.environment, in: scratch)
            #expect(eventually(20_000) { Self.reads(top.output).contains { $0 > 0 } }, "\(top.output) \(load.errors)")
            let tables = Self.reads(top.output).count
            for pid in pair.processes(role: "backend") { kill(pid, SIGKILL) }
            #expect(top.wait(seconds: 30)?.status == 0)
            let later = Self.reads(top.output).dropFirst(tables)
            // The successor counts from nothing; what it does is shown, and no difference below nothing.
            #expect(later.contains { $0 > 0 } && later.allSatisfy { $0 < 100_000_000 }, "\(top.output)")
            kill(load.pid, SIGKILL)
            // What the killed one left is gone: one backend, one socket.
            let sockets = try FileManager.default.contentsOfDirectory(atPath: pair.runDirectory).filter {
                $0.wholeMatch(of: /b[0-9]+\.sock/) != nil
            }
            #expect(sockets.count == 1, "\(sockets)")
            #expect(pair.stop()?.status == 0)
        }

        /// Reads a second of disk 1/51712 in each table.
        private static func reads(_ output: String) -> [UInt64] {
            output.split(separator: "\n").compactMap { line in
                let cells = line.split(separator: " ")
                return cells.first == "1/51712" && cells.count > 2 ? UInt64(cells[2]) : nil
            }
        }

        @Test("without a backend, one line says so", arguments: ["top", "metrics"])
        func nobody(_ command: String) throws {
            let scratch = try Scratch()
            let outcome = try RunningProcess.run([Tools.causeway, command, "--run-dir", scratch.path], in: scratch)
            #expect(outcome.status == 1 && outcome.output.isEmpty)
            #expect(outcome.errors.contains(scratch.path) && outcome.errors.split(separator: "\n").count == 1, "\(outcome.errors)")
        }

        @Test(
            "intervals and counts that make no sense are refused",
            arguments: [["--interval", "0"], ["--interval", "nan"], ["--count", "0"]])
        func refused(_ options: [String]) throws {
            let scratch = try Scratch()
            let outcome = try RunningProcess.run([Tools.causeway, "top"] + options, in: scratch)
            #expect(outcome.status == 2 && outcome.errors.contains(options[0]), "\(outcome.errors)")
        }
    }
}
