// Logs that cannot be written: what was to be said is lost, and nothing else is.

import Foundation
import TestSupport
import Testing

extension EndToEnd {
    @Suite("Lost logs") struct LogLoss {
        @Test(
            "L19: where the log is full, closed or a pipe that nobody reads, a pair serves on, through its backend's death",
            arguments: ["2>/dev/full", "2>&-", "2>&- <&-", "2>unread"])
        func serves(_ redirection: String) throws {
            let scratch = try Scratch()
            let image = try scratch.makeImage(megabytes: 4)
            let before = try Foundation.Data(contentsOf: URL(fileURLWithPath: image))
            let unread = "\(scratch.path)/unread"
            #expect(mkfifo(unread, 0o600) == 0)
            // Kept open, full, and never read.
            let reader = open(unread, O_RDWR | O_NONBLOCK)
            defer { close(reader) }
            while write(reader, [UInt8](repeating: 0x23, count: 4096), 4096) > 0 {}
            let run = "\(scratch.path)/run"
            let running = try RunningProcess(
                [
                    "/bin/sh", "-c",
                    "cd \(scratch.path) && exec \(Tools.causeway) pair --run-dir \(run) --disk \(image),raw,xvda,w \(redirection)",
                ], in: scratch)
            defer { if running.isRunning { kill(running.pid, SIGKILL) } }
            func serves() throws -> Bool {
                let uri = "nbd+unix:///?socket=\(run)/xvda.sock"
                return try RunningProcess.run(["nbdinfo", "--size", uri], in: scratch).output == "4194304\n"
            }
            #expect(try eventually(20_000) { try serves() }, "\(redirection)")
            for _ in 0..<2 {
                let backend = try #require(ProcessTable.children(of: running.pid, commandPrefix: "causeway backend").first)
                kill(backend, SIGKILL)
                #expect(
                    eventually(10_000) {
                        let now = ProcessTable.children(of: running.pid, commandPrefix: "causeway backend").first
                        return now != nil && now != backend
                    }, "\(redirection)")
                #expect(try eventually(20_000) { try serves() }, "\(redirection)")
            }
            kill(running.pid, SIGTERM)
            #expect(try #require(running.wait(seconds: 20), "\(redirection)").status == 0)
            // No line of a log in what happened to be opened in the place of stderr.
            #expect(try Foundation.Data(contentsOf: URL(fileURLWithPath: image)) == before)
        }
    }
}
