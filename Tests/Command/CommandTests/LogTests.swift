// What the command's log looks like: to systemd's journal, on a terminal, to a file; and how much of it there is.

import Foundation
import TestSupport
import Testing

extension EndToEnd {
    @Suite("log") struct LogTests {
        /// What a shell's command, with `$CW` for ours, leaves in `log`.
        private func log(_ script: String, in scratch: Scratch) throws -> String {
            _ = try RunningProcess.run(
                ["sh", "-c", script], environment: ["CW": Tools.causeway, "DIR": scratch.path, "NO_COLOR": ""], in: scratch,
                seconds: 30)
            return try String(contentsOfFile: "\(scratch.path)/log", encoding: .utf8)
        }

        @Test("systemd's journal is told how grave each line is; another file that is called so is not")
        func journal() throws {
            let scratch = try Scratch()
            // A host that begins, which is as it should be, and a command that fails.
            let both = """
                timeout -s TERM 3 "$CW" host --run-dir "$DIR/run" & sleep 1
                "$CW" block-list --run-dir "$DIR/none"; wait
                """
            let told = try log(
                "exec 2>\"$DIR/log\"; export JOURNAL_STREAM=$(stat -Lc %d:%i /proc/self/fd/2)\n" + both, in: scratch)
            let lines = told.split(separator: "\n")
            #expect(!lines.isEmpty && lines.allSatisfy { $0.contains(#/^<[3-6]>causeway: /#) }, "\(told)")
            #expect(told.contains(#/<6>causeway: host: confined/#) && told.contains(#/<3>causeway: .*none/#), "\(told)")
            let other = try log("exec 2>\"$DIR/log\"; export JOURNAL_STREAM=1:1\n" + both, in: scratch)
            #expect(other.contains("causeway: host: confined") && !other.contains("<"), "\(other)")
        }

        @Test("a terminal shows what is wrong in colour, unless it is not to")
        func colours() throws {
            let scratch = try Scratch()
            let on = "unset NO_COLOR; "
            for (setting, isColoured) in [(on, true), ("export NO_COLOR=1; ", false)] {
                let shown = try log(
                    "\(setting)script -qec '\"$CW\" block-list --run-dir \"$DIR/none\"' /dev/null </dev/null >\"$DIR/log\" 2>&1",
                    in: scratch)
                #expect(shown.contains("causeway: ") && shown.contains("\u{1B}[31m") == isColoured, "\(shown.debugDescription)")
            }
            let file = try log("unset NO_COLOR; \"$CW\" block-list --run-dir \"$DIR/none\" 2>\"$DIR/log\"", in: scratch)
            #expect(file.contains("causeway: ") && !file.contains("\u{1B}"))
        }

        @Test("no more is told than was asked for", arguments: [([], true), (["-q"], false), (["--log-level", "warning"], false)])
        func levels(_ options: [String], _ isTold: Bool) throws {
            let scratch = try Scratch()
            let words = options.joined(separator: " ")
            let told = try log("timeout -s TERM 2 \"$CW\" host \(words) --run-dir \"$DIR/run\" 2>\"$DIR/log\"", in: scratch)
            #expect(told.contains("confined") == isTold, "\(told)")
        }

        @Test("a level that there is not is refused, with those that there are")
        func unknown() throws {
            let scratch = try Scratch()
            let refused = try RunningProcess.run([Tools.causeway, "host", "--log-level", "loud"], in: scratch)
            #expect(refused.status == 2 && refused.errors.contains("loud") && refused.errors.contains("warning"), "\(refused)")
        }
    }
}
