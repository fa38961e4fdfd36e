// causeway bench: that the figures come, not what they are.

import Foundation
import Testing

extension EndToEnd {
    @Suite("Benchmarks") struct Benchmarks {
        /// The results by name; each must have figures above nothing.
        private static func results(_ arguments: [String]) throws -> [String: [String: Any]] {
            let scratch = try Scratch()
            let outcome = try RunningProcess.run(
                [Tools.causeway, "bench"] + arguments + ["--json"], environment: ["TMPDIR": scratch.path], in: scratch, seconds: 120
            )
            #expect(outcome.status == 0, "\(outcome.errors)")
            let json = try JSONSerialization.jsonObject(with: Foundation.Data(outcome.output.utf8)) as? [String: Any]
            let list = try #require(json?["results"] as? [[String: Any]], "\(outcome.output)")
            let left = try FileManager.default.contentsOfDirectory(atPath: scratch.path).filter { $0.hasPrefix("causeway.") }
            #expect(left.isEmpty)
            return Dictionary(list.map { ($0["name"] as? String ?? "", $0) }) { first, _ in first }
        }

        @Test("bench grant: maps, copies, offers, doorbells and interrupts, each beside its reference")
        func grants() throws {
            let results = try Self.results(["grant", "--runs", "2", "--seconds", "0.01"])
            #expect(results.count == 7)
            let units = ["doorbell there and back": "µs", "interrupt into an eventfd": "ns"]
            for (name, result) in results {
                #expect(result["ours"] as? Double ?? 0 > 0 && result["ratio"] as? Double ?? 0 > 0, "\(name)")
                #expect(result["runs"] as? Int == 2 && result["unit"] as? String == (units[name] ?? "ns/page"))
            }
        }

        @Test("bench block: a null device, and a file beside fio")
        func block() throws {
            let results = try Self.results(["block", "--runs", "1", "--seconds", "0.1", "--depth", "8", "--size", "4"])
            #expect(results.count == 3)
            for (name, result) in results where !name.hasPrefix("events") {
                #expect(result["ours"] as? Double ?? 0 > 0, "\(name)")
                #expect((result["ratio"] as? Double != nil) == name.hasPrefix("file"), "\(name)")
            }
        }
    }
}
