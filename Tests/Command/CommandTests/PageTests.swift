// README.md and Docs/ print what they show. What a page's block is, and how what differs in each run is compared, says
// tools/checks/pages.py.

import Foundation
import Testing
import TestSupport

extension EndToEnd {
    @Suite("Pages") struct Pages {
        @Test("each block of commands in README.md and Docs/ is run, and prints what the page shows")
        func blocks() throws {
            let scratch = try Scratch()
            var root = URL(filePath: #filePath).deletingLastPathComponent()
            while !FileManager.default.fileExists(atPath: root.appending(path: "Makefile").path), root.path != "/" {
                root.deleteLastPathComponent()
            }
            let outcome = try RunningProcess.run(
                ["python3", "\(root.path)/tools/checks/pages.py", "--command", Tools.causeway], in: scratch, seconds: 300)
            #expect(outcome.status == 0, "\(outcome.output)\(outcome.errors)")
            #expect(
                outcome.output.firstMatch(of: /[0-9]+ blocks, ([0-9]+) of them run/).map { Int($0.1) ?? 0 } ?? 0 >= 4, "\(outcome)")
        }
    }
}
