import Foundation
import Testing
import TestSupport

extension EndToEnd {
    @Suite("When a system call fails") struct SystemCalls {
        /// Which calls fail in which of a disk's processes, in strace's words.
        struct Fault: CustomTestStringConvertible, Sendable {
            let role, call, failure: String
            /// Whether nobody may notice.
            var isPassedOver = false
            var testDescription: String { "\(role): \(call) \(failure)" }
        }

        /// What a signal interrupts is asked again; what there is no room for is said. Each thread's n-th call fails.
        static let faults: [Fault] =
            ["host", "backend", "frontend"].flatMap { role in
                [
                    Fault(role: role, call: "recvmsg", failure: "error=EINTR:when=3+5", isPassedOver: true),
                    Fault(role: role, call: "poll", failure: "error=EINTR:when=2+3", isPassedOver: true),
                    Fault(role: role, call: "io_uring_enter", failure: "error=EINTR:when=5+3", isPassedOver: true),
                    Fault(role: role, call: "pipe2", failure: "error=EMFILE:when=2"),
                    Fault(role: role, call: "fcntl", failure: "error=EINVAL:when=5"),
                ]
            } + [
                Fault(role: "host", call: "memfd_create", failure: "error=ENOMEM:when=1"),
                Fault(role: "host", call: "ftruncate", failure: "error=ENOSPC:when=1"),
                Fault(role: "host", call: "socketpair", failure: "error=EMFILE:when=1"),
                Fault(role: "backend", call: "io_uring_setup", failure: "error=ENOMEM:when=1"),
                Fault(role: "frontend", call: "io_uring_setup", failure: "error=ENOMEM:when=1"),
                Fault(role: "backend", call: "io_uring_enter", failure: "error=ENOMEM:when=7+9"),
            ]

        @Test("L8: a call that fails in one process costs that process at most, which says so, and none traps", arguments: faults)
        func fails(_ fault: Fault) throws {
            let scratch = try Scratch()
            let image = try scratch.makeImage(megabytes: 4)
            let roles = try Roles(disk: image, in: scratch, fault)
            let client = try RunningProcess.run(
                ["qemu-io", "-f", "raw", roles.uri, "-c", "write -P 7 0 1M", "-c", "read -P 7 0 1M"], in: scratch, seconds: 30)
            let isServed = client.status == 0 && !client.output.contains("failed")
            if fault.isPassedOver { #expect(isServed, "\(client.output) \(client.errors) \(roles.words)") }
            // Who serves no disk does not pretend to.
            #expect(isServed || eventually(10_000) { roles.all.contains { !$0.1.isRunning } }, "\(client) \(roles.words)")
            for (role, process) in roles.all {
                // Those that have ended did so by themselves, and said why.
                let ended = process.isRunning ? nil : process.wait(seconds: 1)
                if let ended {
                    #expect(ended.status == 1, "\(role): \(ended)")
                    let last = ended.errors.split(separator: "\n").last ?? ""
                    #expect(last.hasPrefix("causeway: ") && last.count > 20, "\(role): \(ended.errors)")
                }
                #expect(!process.errors.contains("Fatal") && !process.errors.contains("Illegal"), "\(role): \(process.errors)")
            }
            roles.end()
        }

        /// A host, a backend and a frontend, as far as they come.
        private final class Roles {
            private(set) var all: [(String, RunningProcess)] = []
            let uri: String

            init(disk: String, in scratch: Scratch, _ fault: Fault) throws {
                let directory = "\(scratch.path)/run"
                let environment = ["CAUSEWAY_RUN_DIR": directory]
                uri = "nbd+unix:///?socket=\(scratch.path)/x.sock"
                func start(_ role: String, _ words: [String], until isUp: (RunningProcess) -> Bool) throws {
                    let strace = [
                        "strace", "-D", "-f", "-qq", "-o", "/dev/null", "-e", "trace=\(fault.call)", "-e",
                        "inject=\(fault.call):\(fault.failure)",
                    ]
                    let process = try RunningProcess(
                        (role == fault.role ? strace : []) + [Tools.causeway, role] + words, environment: environment, in: scratch)
                    all.append((role, process))
                    _ = eventually(20_000) { isUp(process) || !process.isRunning }
                }
                let files = FileManager.default
                try start("host", []) { _ in files.fileExists(atPath: "\(directory)/xenstored.sock") }
                try start("backend", ["--no-persistent"]) { $0.errors.contains("serving domain 0's vbd") }
                let isUp = all.allSatisfy { $0.1.isRunning }
                if isUp {
                    _ = try RunningProcess.run(
                        [Tools.causeway, "block-attach", "\(disk),raw,xvda,w"], environment: environment, in: scratch, seconds: 20)
                }
                guard isUp else { return }
                try start("frontend", ["vbd", "xvda", "--nbd", "\(scratch.path)/x.sock"]) { _ in
                    files.fileExists(atPath: "\(scratch.path)/x.sock")
                }
            }

            var words: String { all.map { "\($0.0): \($0.1.errors)" }.joined(separator: "\n") }

            func end() {
                for (_, process) in all.reversed() where process.isRunning {
                    kill(process.pid, SIGTERM)
                    _ = process.wait(seconds: 10)
                }
            }

            deinit { end() }
        }
    }
}
