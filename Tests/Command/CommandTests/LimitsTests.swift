// How many disks and interfaces one pair may have: descriptors, and what Docs/guides/limits.md says of them.

import Foundation
import TestSupport
import Testing

extension EndToEnd {
    @Suite("Limits") struct Limits {
        /// Descriptors that each process of a pair has open, once these have settled.
        private static func descriptors(of pair: PairUnderTest) -> [String: Int] {
            var processes = ["pair": [pair.running.pid]]
            for role in ["host", "backend"] { processes[role] = pair.processes(role: role) }
            var last: [String: Int] = [:]
            _ = eventually(5000) {
                let before = last
                last = processes.mapValues { pids in
                    pids.reduce(0) { $0 + ((try? FileManager.default.contentsOfDirectory(atPath: "/proc/\($1)/fd").count) ?? 0) }
                }
                sleepMilliseconds(200)
                return last == before
            }
            return last
        }

        /// What the page says: a row's numbers by its first word.
        private static func documented(_ heading: String) throws -> [String: [Int]] {
            let page = try String(contentsOfFile: "\(Checkout.root)/Docs/guides/limits.md", encoding: .utf8)
            let section = try #require(page.components(separatedBy: "\n## ").first { $0.hasPrefix(heading) })
            var rows: [String: [Int]] = [:]
            for line in section.split(separator: "\n") where line.hasPrefix("| ") {
                let cells = line.split(separator: "|").map { $0.trimmingCharacters(in: .whitespaces) }
                rows[cells[0]] = cells.dropFirst().compactMap { Int($0) }
            }
            return rows
        }

        @Test("descriptors for each disk, each of its queues, and each interface are as many as the page says")
        func descriptorsOfEach() throws {
            let scratch = try Scratch()
            let page = try Self.documented("Descriptors")
            let image = try scratch.makeImage(megabytes: 4)
            func count(files: Int, queues: Int) throws -> [String: Int] {
                let disks = (0..<files).map { "\(image),raw,xvd\(["a", "b", "c", "d"][$0]),r" }
                let pair = try PairUnderTest(disks: disks, options: ["--queues", "\(queues)"], in: scratch)
                defer { #expect(pair.stop()?.status == 0) }
                return Self.descriptors(of: pair)
            }
            let (one, three, wide) = (
                try count(files: 1, queues: 1), try count(files: 3, queues: 1), try count(files: 3, queues: 2)
            )
            for role in ["host", "backend", "pair"] {
                let row = try #require(page[role], "\(role)")
                let disk = ((three[role] ?? 0) - (one[role] ?? 0)) / 2
                let queue = ((wide[role] ?? 0) - (three[role] ?? 0)) / 3
                #expect([disk - queue, queue] == Array(row.prefix(2)), "\(role): \(one) \(three) \(wide)")
                // What the test's own process left open is in all of them.
                let inherited = (one["pair"] ?? 0) - (page["pair"]?[4] ?? 0)
                #expect((one[role] ?? 0) - disk - inherited <= row[4], "\(role): \(one)")
            }
        }

        @Test("descriptors for each interface are as many as the page says (needs root)", .enabled(if: Tools.isRoot))
        func descriptorsOfInterfaces() throws {
            let scratch = try Scratch()
            let page = try Self.documented("Descriptors")
            func count(_ interfaces: Int, queues: Int) throws -> [String: Int] {
                let vifs = (0..<interfaces).map { "mac=00:16:3e:5a:01:0\($0)" }
                let pair = try PairUnderTest(disks: [], vifs: vifs, options: ["--vif-queues", "\(queues)"], in: scratch)
                defer { #expect(pair.stop()?.status == 0) }
                return Self.descriptors(of: pair)
            }
            let (one, three, wide) = (try count(1, queues: 1), try count(3, queues: 1), try count(3, queues: 2))
            for role in ["host", "backend", "pair"] {
                let row = try #require(page[role], "\(role)")
                let interface = ((three[role] ?? 0) - (one[role] ?? 0)) / 2
                let queue = ((wide[role] ?? 0) - (three[role] ?? 0)) / 3
                #expect([interface - queue, queue] == Array(row[2...3]), "\(role): \(one) \(three) \(wide)")
            }
        }

        @Test("the soft limit of open files is the hard one in every process of a pair, and what it was in the command")
        func softLimit() throws {
            let scratch = try Scratch()
            let script = """
                ulimit -Sn 300
                hard=$(ulimit -Hn)
                exec '\(Tools.causeway)' pair --quiet --disk null:1M,,xvda -- sh -c \
                'ulimit -Sn; for pid in $PPID $(cat /proc/$PPID/task/*/children); do [ $pid = $$ ] || \
                grep "open files" /proc/$pid/limits; done'
                """
            let outcome = try RunningProcess.run(["sh", "-c", script], in: scratch, seconds: 60)
            let lines = outcome.output.split(separator: "\n")
            #expect(lines.first == "300", "\(outcome)")
            // The pair, its host, its backend, its frontend.
            #expect(lines.count == 5, "\(outcome)")
            for line in lines.dropFirst() {
                let words = line.split(separator: " ")
                #expect(words.count > 4 && words[3] == words[4], "\(line)")
            }
        }

        @Test("two hundred disks in one pair at a soft limit of 1024, each of them of use")
        func twoHundredDisks() throws {
            let scratch = try Scratch()
            let letters = Array("abcdefghijklmnopqrstuvwxyz")
            let names = (0..<200).map { $0 < 26 ? "xvd\(letters[$0])" : "xvd\(letters[$0 / 26 - 1])\(letters[$0 % 26])" }
            let disks = names.map { "--disk null:1M,,\($0)" }.joined(separator: " ")
            let script = """
                ulimit -Sn 1024
                exec '\(Tools.causeway)' pair --quiet \(disks) -- sh -c 'for uri in $(env | sed -n "s/^CAUSEWAY_NBD_[a-z]*=//p"); do \
                nbdinfo --size "$uri" || exit 3; done'
                """
            let outcome = try RunningProcess.run(["sh", "-c", script], in: scratch, seconds: 300)
            #expect(outcome.status == 0, "\(outcome.errors.suffix(2000))")
            #expect(outcome.output.split(separator: "\n").filter { $0 == "1048576" }.count == 200)
        }
    }
}
