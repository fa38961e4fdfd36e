// causeway upgrade of a backend: its frontends go on with their rings, and what it holds of theirs does not grow.

import Foundation
import TestSupport
import Testing

extension EndToEnd {
    @Suite("upgrade of a backend") struct BackendUpgradeTests {
        /// What domain 0 holds on the host.
        private func held(_ pair: PairUnderTest) throws -> [String: Int] {
            let status = try pair.run([Tools.causeway, "status", "--json"])
            let json = try #require(try JSONSerialization.jsonObject(with: Foundation.Data(status.output.utf8)) as? [String: Any])
            let usage = try #require(json["usage"] as? [[String: Any]])
            let own = try #require(usage.first { $0["domain"] as? String == "0" }, "\(status)")
            // Descriptors on their way and watches are the process's own, and come and go.
            return own.compactMapValues { $0 as? Int }.filter { ["grants", "mappings", "ports"].contains($0.key) }
        }

        /// What cannot go on is refused; what is gone when it is to be run is undone.
        private func refuse(_ pair: PairUnderTest) throws {
            let vanishing = "\(pair.scratch.path)/vanishing"
            try Foundation.Data("#!/bin/sh\necho 2\nrm \"$0\"\n".utf8).write(to: URL(fileURLWithPath: vanishing))
            chmod(vanishing, 0o755)
            for (program, reason) in [("/bin/true", "cannot go on with"), (vanishing, "No such file")] {
                let upgrade = try pair.run([Tools.causeway, "upgrade", "--program", program])
                #expect(upgrade.status == 1 && upgrade.errors.contains(reason), "\(upgrade)")
            }
        }

        @Test(
            "ten in a row under a verified load and a TCP stream: no error, nothing held twice; one that cannot be is undone",
            .enabled(if: Tools.isRoot, "needs root"))
        func tenInARow() throws {
            let scratch = try Scratch()
            let image = try scratch.makeImage(megabytes: 32)
            let pair = try PairUnderTest(
                disks: ["\(image),raw,xvda,w"], vifs: ["mac=00:16:3e:01:02:07"], options: ["--journal"], in: scratch)
            let (tap, namespace) = ("cw\(pair.running.pid).0", "causeway-\(pair.running.pid)-0")
            for command in [
                ["ip", "addr", "add", "10.79.0.1/24", "dev", tap],
                ["ip", "-n", namespace, "addr", "add", "10.79.0.2/24", "dev", "eth0"],
            ] { #expect(try pair.run(command).status == 0) }
            let load = try RunningProcess(
                [
                    "fio", "--name=job", "--ioengine=nbd", "--uri=\(pair.uri("xvda"))", "--rw=randrw", "--bs=4k", "--iodepth=8",
                    "--size=8m", "--verify=crc32c", "--verify_backlog=64", "--verify_state_save=0", "--time_based", "--runtime=600",
                ], environment: pair.environment, in: scratch)
            defer { if load.isRunning { kill(load.pid, SIGKILL) } }
            let server = try RunningProcess(
                ["ip", "netns", "exec", namespace, "iperf3", "--server", "--one-off", "--forceflush", "--bind", "10.79.0.2"],
                in: scratch)
            defer { if server.isRunning { kill(server.pid, SIGKILL) } }
            #expect(eventually(10_000) { server.output.contains("listening") })
            let stream = try RunningProcess(
                ["iperf3", "--client", "10.79.0.2", "--bidir", "--time", "10", "--connect-timeout", "5000", "--json"], in: scratch)
            defer { if stream.isRunning { kill(stream.pid, SIGKILL) } }
            #expect(
                try eventually(30_000) {
                    UInt64(try pair.run([Tools.causeway, "device", "get", "vbd-1/51712", "counters.writes"]).output.dropLast()) ?? 0
                        > 100
                })
            let before = try held(pair)
            let backend = pair.processes(role: "backend")
            var pauses: [Double] = []
            for _ in 0..<10 {
                let upgrade = try pair.run([Tools.causeway, "upgrade"])
                #expect(upgrade.status == 0, "\(upgrade)")
                let words = upgrade.output.split(separator: " ")
                pauses.append(try #require(words.dropLast().last.flatMap { Double($0) }, "\(upgrade)"))
            }
            try refuse(pair)
            #expect(pair.processes(role: "backend") == backend)
            // Frames that come during a pause are lost, as from a wire; TCP sends them again.
            let streamed = try #require(stream.wait(seconds: 60), "\(stream.output)")
            #expect(streamed.status == 0 && !streamed.output.contains("\"error\""), "\(streamed)")
            let writes = try pair.run([Tools.causeway, "device", "get", "vbd-1/51712", "counters.writes"]).output
            #expect(
                try eventually(10_000) {
                    try pair.run([Tools.causeway, "device", "get", "vbd-1/51712", "counters.writes"]).output != writes
                }, "the undone one serves")
            #expect(try held(pair).filter { $0.key != "mappings" } == before.filter { $0.key != "mappings" })
            #expect(load.isRunning)
            kill(load.pid, SIGINT)
            let ended = try #require(load.wait(seconds: 30))
            #expect(ended.output.contains("err= 0"), "\(ended)")
            print("ten upgrades of a backend under load: longest pause \(pauses.max() ?? 0) ms, all \(pauses)")
            #expect(pauses.allSatisfy { $0 < 5000 })
            #expect(pair.stop()?.status == 0)
            #expect(
                pair.running.output.isEmpty == false && !pair.running.errors.contains("starting it again"), "\(pair.running.errors)"
            )
        }

        @Test("a backend without journals refuses, and goes on; where there is none that is said")
        func refused() throws {
            let scratch = try Scratch()
            let image = try scratch.makeImage(megabytes: 1)
            let pair = try PairUnderTest(disks: ["\(image),raw,xvda,w"], in: scratch)
            let upgrade = try pair.run([Tools.causeway, "upgrade"])
            #expect(upgrade.status == 1 && upgrade.errors.contains("keeps no journals"), "\(upgrade)")
            #expect(try pair.run(["qemu-io", "-f", "raw", pair.uri("xvda"), "-c", "write -P 7 0 64k"]).status == 0)
            #expect(pair.stop()?.status == 0)
            let nobody = try RunningProcess.run([Tools.causeway, "upgrade", "--run-dir", scratch.path], in: scratch)
            #expect(nobody.status == 1 && nobody.errors.contains("no backend answers there"), "\(nobody)")
        }
    }
}
