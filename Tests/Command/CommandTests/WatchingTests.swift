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
                    // A histogram's lines have names of their own.
                    let family = name.replacing(/_(bucket|sum|count)$/, with: "")
                    let isHistogram = types[family] == "histogram"
                    let kind = name.hasSuffix("_total") ? "counter" : "gauge"
                    #expect(isHistogram || helped.contains(name) && types[name] == kind, "\(line)")
                    let text = try #require(line.split(separator: " ").last, "\(line)")
                    if name.hasSuffix("_sum"), isHistogram {
                        #expect(Double(text) != nil, "\(line)")
                        continue
                    }
                    let value = try #require(UInt64(text), "\(line)")
                    #expect(samples.updateValue(value, forKey: Self.key(line)) == nil, "\(line)")
                }
            }
            return samples
        }

        /// A sample's name and labels, but for the names that people gave.
        private static func key(_ line: Substring) -> String {
            String(line[..<(line.lastIndex(of: " ") ?? line.endIndex)].replacing(/,(guest|vdev|target)="[^"]*"/, with: ""))
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
            #expect(outcome.output.contains(#"device="51712",guest="guest1",vdev="xvda",target="\#(image)"}"#), "\(outcome.output)")
            #expect(samples["causeway_up"] == 1 && outcome.output.contains(/causeway_build_info{version="[0-9.]+"} 1/))
            // Every request is in the last bucket, and none twice.
            for (operation, requests) in [("read", "reads"), ("write", "writes")] {
                let of = "{domain=\"1\",device=\"51712\",operation=\"\(operation)\""
                let timed = samples["causeway_vbd_latency_seconds_count\(of)}"] ?? 0
                #expect(timed > 0 && timed <= samples["causeway_vbd_\(requests)_total" + disk] ?? 0, "\(outcome.output)")
                #expect(samples["causeway_vbd_latency_seconds_bucket\(of),le=\"+Inf\"}"] == timed)
                #expect(samples["causeway_vbd_latency_seconds_bucket\(of),le=\"17.179869184\"}"] == timed)
                #expect(samples["causeway_vbd_latency_seconds_bucket\(of),le=\"0.000001024\"}"] == 0)
            }
            #expect(samples["causeway_vbd_bounced_total{domain=\"1\",device=\"51712\",reason=\"mask\"}"] == 0)
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
            #expect(shown["target"] as? String == image)
            let latency = try #require(shown["latency"] as? [String: [String: Any]])
            #expect(latency["write"]?["count"] as? UInt64 ?? 0 > 0 && latency["write"]?["p99-ns"] as? UInt64 ?? 0 > 0, "\(latency)")
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
                return cells.first == "1/51712" && cells.count > 3 ? UInt64(cells[3]) : nil
            }
        }

        @Test("on a terminal top draws what a disk did, and takes keys; the order is what was asked for")
        func topKeys() throws {
            let scratch = try Scratch()
            let image = try scratch.makeImage(megabytes: 4)
            let pair = try PairUnderTest(disks: ["\(image),raw,xvda,w", "null:1M,,xvdb"], in: scratch)
            let keys = "(sleep 1; printf r; sleep 1; printf q) | script -qec '\(Tools.causeway) top --interval 0.3' /dev/null"
            let shown = try pair.run(["sh", "-c", keys])
            #expect(shown.status == 0 && shown.output.contains("▁") && shown.output.contains("guest1/xvda"), "\(shown)")
            let table = try pair.run([Tools.causeway, "top", "--interval", "0.1", "--count", "1", "--sort", "latency"])
            let rows = table.output.split(separator: "\n").map { $0.split(separator: " ").prefix(2).joined(separator: " ") }
            #expect(rows == ["Disk name", "1/51712 guest1/xvda", "2/51728 guest2/xvdb", "all 2"], "\(table)")
            let unknown = try pair.run([Tools.causeway, "top", "--sort", "colour"])
            #expect(unknown.status == 2 && unknown.errors.contains("colour"), "\(unknown)")
            #expect(pair.stop()?.status == 0)
        }

        @Test("a process whose thread stands still is waited for five seconds, and named; then it goes on as if nothing were")
        func stuck() throws {
            let scratch = try Scratch()
            let image = try scratch.makeImage(megabytes: 4)
            let pair = try PairUnderTest(disks: ["\(image),raw,xvda,w"], in: scratch)
            let backend = try #require(pair.processes(role: "backend").first)
            let held = try HeldThread("blkback-0", of: backend, in: scratch)
            let began = ContinuousClock.now
            let ring = try pair.run([Tools.causeway, "ring", "1/xvda"])
            #expect(ring.status == 1 && ring.errors.contains("process \(backend) has not answered for 5 s"), "\(ring)")
            #expect(began.duration(to: .now) < .seconds(20))
            // What it counted up to then is there all the same.
            let status = try pair.run([Tools.causeway, "status"])
            #expect(status.status == 0 && status.output.contains("vbd-1/51712"), "\(status)")
            held.end()
            #expect(try eventually(10_000) { try pair.run([Tools.causeway, "ring", "1/xvda"]).status == 0 })
            #expect(pair.stop()?.status == 0)
        }

        @Test("a backend that died and left its socket is said of by status and metrics, which fail; ring reads its journal")
        func dead() throws {
            let scratch = try Scratch()
            // A disk that takes its time: there is always something in work.
            let slow = "\(scratch.path)/slow.sock"
            let server = try RunningProcess(
                ["nbdkit", "-f", "-U", slow, "--filter=delay", "memory", "4M", "wdelay=20"], in: scratch)
            defer { kill(server.pid, SIGKILL) }
            #expect(eventually(10_000) { FileManager.default.fileExists(atPath: slow) })
            // A pair would begin another at once: these are begun one by one.
            let host = try ByHand(in: scratch)
            let backend = try host.start("backend", "--vif-kind", "none", "--journal", "\(host.directory)/journal")
            let attach = try host.run("block-attach", "vdev=xvda,access=rw,target=nbd+unix:///?socket=\(slow)")
            try #require(attach.status == 0, "\(attach) \(backend.errors)")
            let socket = "\(scratch.path)/disk.sock"
            let frontend = try host.start("frontend", "vbd", "xvda", "--nbd", socket)
            try #require(eventually(10_000) { FileManager.default.fileExists(atPath: socket) }, "\(frontend.errors)")
            let load = try RunningProcess(
                [
                    "fio", "--name=x", "--ioengine=nbd", "--uri=nbd+unix:///?socket=\(socket)", "--rw=randwrite", "--bs=4k",
                    "--iodepth=16", "--size=4m", "--time_based", "--runtime=60",
                ], in: scratch)
            defer { kill(load.pid, SIGKILL) }
            let taken = try eventually(20_000) { try host.run("ring", "1/xvda").output.contains(/in-work +[1-9]/) }
            #expect(taken, "\(load.errors) \(frontend.errors)")
            let live = try host.run("ring", "vbd-1/51712")
            #expect(live.status == 0 && live.output.contains(/write +[0-9]+ +4096 +[0-9]+ +at the disk/), "\(live)")
            #expect(try host.run("metrics").status == 0)
            kill(backend.pid, SIGKILL)
            _ = backend.wait(seconds: 10)
            let metrics = try host.run("metrics")
            #expect(
                metrics.status == 1 && metrics.output.contains("causeway_up 0\n") && metrics.errors.contains("has died"),
                "\(metrics)")
            let status = try host.run("status")
            #expect(status.status == 1 && status.errors.split(separator: "\n").count == 1, "\(status)")
            let left = try host.run("ring", "1/xvda")
            #expect(left.status == 0 && left.output.contains("its backend is dead"), "\(left)")
            let json = try host.run("ring", "--json", "1/xvda")
            let object = try #require(try JSONSerialization.jsonObject(with: Foundation.Data(json.output.utf8)) as? [String: Any])
            let rings = try #require(object["rings"] as? [[String: Any]])
            // A write was asked all the time: some are in work, each with its number and place.
            let requests = try #require(rings.first?["requests"] as? [[String: Any]])
            #expect(rings.first?["in-work"] as? Int == requests.count && !requests.isEmpty, "\(json)")
            #expect(requests.allSatisfy { $0["operation"] as? String == "write" && $0["sector"] is Int }, "\(json)")
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
