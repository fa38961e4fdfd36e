// causeway fault: faults of running devices, set, listed and undone by name, on both sides; what is refused.

import Foundation
import TestSupport
import Testing

extension EndToEnd {
    @Suite("fault") struct FaultCommandTests {
        private let scratch: Scratch
        private static let disk = "vbd-1/51712"

        init() throws { scratch = try Scratch() }

        private func fault(_ pair: PairUnderTest, _ words: String...) throws -> Outcome {
            try pair.run([Tools.causeway, "fault"] + words)
        }

        private func write(_ pair: PairUnderTest, _ pattern: Int, _ more: String...) throws -> Outcome {
            try pair.run(
                ["qemu-io", "-f", "raw", pair.uri("xvda"), "-c", "write -P \(pattern) 0 64k", "-c", "read -P \(pattern) 0 64k"]
                    + more)
        }

        @Test("faults of both sides are set, strike, are listed and undone by name; then a disk is as ever")
        func bothSides() throws {
            let image = try scratch.makeImage(megabytes: 16)
            let pair = try PairUnderTest(disks: ["\(image),raw,xvda,w"], in: scratch)
            #expect(try fault(pair, Self.disk).output == "Name  Kind  Side  How  Struck  Left  Seed\n")
            let set = try fault(
                pair, Self.disk, "error", "--operation", "write", "--sectors", "8-15", "--count", "1", "--seed", "7", "--name",
                "bad")
            #expect(set.output == "bad: set on the back side of \(Self.disk), seed 7\n" && set.status == 0, "\(set)")
            #expect(try fault(pair, Self.disk, "delay", "--ms", "300", "--count", "1", "--side", "front").status == 0)
            let begun = Date()
            let failed = try write(pair, 7)
            #expect(failed.output.contains("Input/output error") && Date().timeIntervalSince(begun) > 0.25, "\(failed)")
            let rows = try fault(pair, Self.disk).output.split(separator: "\n").map {
                $0.split(separator: " ", omittingEmptySubsequences: true).joined(separator: " ")
            }
            #expect(rows.count == 3)
            #expect(rows.contains("bad error back write, sectors 8-15 1 0 7"), "\(rows)")
            #expect(rows.contains { $0.hasPrefix("delay delay front 300 ms 1 0 ") }, "\(rows)")
            #expect(try fault(pair, Self.disk, "--side", "front").output.split(separator: "\n").count == 2)
            #expect(
                try fault(pair, Self.disk, "--clear", "bad").output
                    == "bad: set no more on the back side of \(Self.disk); it struck 1 times\n")
            #expect(try fault(pair, Self.disk, "--clear", "all").output.hasPrefix("delay: set no more on the front side"))
            #expect(try fault(pair, Self.disk).output.split(separator: "\n").count == 1)
            let healed = try write(pair, 8)
            #expect(healed.status == 0 && !healed.output.contains("rror"), "\(healed)")
            // Whoever reads the log sees why.
            #expect(pair.running.errors.contains("fault: \(Self.disk): bad is set on its back side, seed 7"))
            #expect(pair.running.errors.contains("fault: \(Self.disk): bad is set no more"))
            #expect(pair.stop()?.status == 0)
        }

        @Test("a backend that lies ends its frontend; the next one is served, and data are what was written")
        func brokenBackend() throws {
            let image = try scratch.makeImage(megabytes: 16)
            let pair = try PairUnderTest(disks: ["\(image),raw,xvda,w"], in: scratch)
            #expect(try fault(pair, Self.disk, "corrupt-index", "--seed", "1").status == 0)
            #expect(try write(pair, 7).status != 0)
            #expect(eventually(10_000) { pair.running.errors.contains("the frontend exited with status 1; starting it again") })
            #expect(
                pair.running.errors.contains(
                    "frontend: vbd 51712: the backend broke the protocol: the peer's producer index "), "\(pair.running.errors)")
            #expect(try eventually(10_000) { try write(pair, 9).status == 0 })
            #expect(pair.stop()?.status == 0)
        }

        @Test(
            "what makes no sense is refused in one line",
            arguments: [
                ([Self.disk, "melt"], "`melt` is nothing that the back side of a disk can do wrong; it knows delay, "),
                ([Self.disk, "short"], "`short` is nothing that the back side of a disk can do wrong"),
                ([Self.disk, "error", "--side", "front"], "`error` is nothing that the front side of a disk can do wrong"),
                (["vif-1/0", "error"], "`error` is nothing that the back side of an interface can do wrong"),
                ([Self.disk, "delay", "--ms", "0"], "--ms: `0` is not 1 to 600000"),
                ([Self.disk, "error", "--ms", "9"], "--ms means nothing for `error` on the back side of a disk"),
                ([Self.disk, "delay", "--sectors", "9-3"], "--sectors: `9-3` is not FIRST-LAST, in sectors of 512 bytes"),
                (
                    [Self.disk, "delay", "--operation", "frob"],
                    "--operation: `frob` is not of read, write, flush, discard, with commas"
                ),
                ([Self.disk, "delay", "--count", "0"], "--count: `0` is not 1 or more"),
                ([Self.disk, "delay", "--every", "0"], "--every: `0` is not 1 or more"),
                ([Self.disk, "delay", "--name", "a b"], "`a b` is no name for a fault: letters, digits, - and _, and not `all`"),
                ([Self.disk, "delay", "--toward", "front"], "--toward means nothing for `delay` on the back side of a disk"),
                ([Self.disk, "delay", "--clear", "all"], "--clear undoes, and delay is to be set: one of both"),
                ([Self.disk, "--ms", "5"], "--ms is of a fault that is set: which kind?"),
            ] as [([String], String)])
        func hostile(words: [String], expected: String) throws {
            let outcome = try RunningProcess.run(
                [Tools.causeway, "fault"] + words, environment: ["CAUSEWAY_RUN_DIR": scratch.path], in: scratch)
            #expect(outcome.status == 2)
            #expect(outcome.errors.hasPrefix("causeway: \(expected)"), "\(outcome.errors)")
        }

        @Test("whom nobody has, and what is not set") func unknown() throws {
            let nobody = try RunningProcess.run(
                [Tools.causeway, "fault", Self.disk], environment: ["CAUSEWAY_RUN_DIR": scratch.path], in: scratch)
            #expect(nobody.status == 1 && nobody.errors.contains("nobody answers there for devices"), "\(nobody)")
            let image = try scratch.makeImage(megabytes: 1)
            let pair = try PairUnderTest(disks: ["\(image),raw,xvda,w"], in: scratch)
            let other = try fault(pair, "vbd-1/77", "delay")
            #expect(other.status == 1)
            #expect(other.errors == "causeway: fault: vbd-1/77: no such device here; there are \(Self.disk)\n", "\(other)")
            let none = try fault(pair, Self.disk, "--clear", "mine")
            #expect(none.status == 1)
            #expect(none.errors == "causeway: fault: \(Self.disk): no fault called mine is set; there is none\n", "\(none)")
            #expect(try fault(pair, Self.disk, "delay", "--name", "mine").status == 0)
            let taken = try fault(pair, Self.disk, "delay", "--name", "mine")
            #expect(taken.status == 1 && taken.errors.contains("a fault called mine is set already"), "\(taken)")
            #expect(pair.stop()?.status == 0)
        }

        @Test("the session in Python says what Docs/break-it.md shows") func python() throws {
            let image = try scratch.makeImage(megabytes: 1)
            let programs = URL(fileURLWithPath: Tools.causeway).deletingLastPathComponent().path
            let outcome = try RunningProcess.run(
                [
                    Tools.causeway, "pair", "-q", "--disk", "\(image),raw,xvda,w", "--", "/usr/bin/python3",
                    "\(Checkout.root)/Examples/break-it/session.py",
                ], environment: ["PATH": "\(programs):/usr/bin:/bin:/usr/sbin:/sbin"], in: scratch, seconds: 60)
            #expect(outcome.status == 0, "\(outcome)")
            let page = try String(contentsOfFile: "\(Checkout.root)/Docs/break-it.md", encoding: .utf8)
            let lines = outcome.output.split(separator: "\n")
            #expect(lines.count == 4)
            for line in lines { #expect(page.contains("\n    \(line)\n"), "\(line)") }
        }

        @Test("a backend that stands on a Xen refuses, in one line") func onXen() throws {
            let image = try scratch.makeImage(megabytes: 1)
            let pair = try PairUnderTest(
                disks: ["\(image),raw,xvda,w"],
                options: [
                    "--backend-command",
                    "\(Tools.causeway) backend --xen --scripts ignore --no-journal --run-dir \"$CAUSEWAY_RUN_DIR\"",
                ], in: scratch)
            let refused = try fault(pair, Self.disk, "delay")
            #expect(refused.status == 1)
            #expect(
                refused.errors
                    == "causeway: fault: \(Self.disk): fault delay: faults are set on the loopback host only: a guest of a real Xen has data to lose\n",
                "\(refused)")
            #expect(pair.stop()?.status == 0)
        }
    }
}
