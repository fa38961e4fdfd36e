import Foundation
import Testing
import TestSupport

extension EndToEnd {
    @Suite("The unit for Xen hosts") struct UnitTests {
        @Test(
            "the unit is a user's own, and systemd finds it exposed by no more than 2.5 of 10 (needs systemd-analyze)",
            .enabled(if: (try? Tools.find("systemd-analyze")) != nil))
        func exposure() throws {
            var root = URL(filePath: #filePath).deletingLastPathComponent()
            while !FileManager.default.fileExists(atPath: root.appending(path: "Package.swift").path) {
                root.deleteLastPathComponent()
            }
            let unit = root.appending(path: "Packaging/causeway-backend.service").path
            let outcome = try RunningProcess.run(
                ["systemd-analyze", "security", "--offline=true", "--threshold=25", "--no-pager", unit], in: try Scratch())
            #expect(outcome.status == 0, "\(outcome.output)")
            #expect(try String(contentsOfFile: unit, encoding: .utf8).contains("\nUser=causeway\n"))
        }
    }
}
