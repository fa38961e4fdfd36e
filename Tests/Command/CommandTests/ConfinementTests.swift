import Foundation
import Testing
import TestSupport

/// What whoever owns a frontend's process has: nothing of the others'.
extension EndToEnd {
    @Suite("Who owns a frontend's process") struct Owners {
        /// One line of /proc/PID/status, its words.
        static func status(_ pid: Int32, _ name: String) -> [String] {
            let text = (try? String(contentsOfFile: "/proc/\(pid)/status", encoding: .utf8)) ?? ""
            let line = text.split(separator: "\n").first { $0.hasPrefix("\(name):") } ?? ""
            let words = line.dropFirst(name.count + 1).split(whereSeparator: { $0.isWhitespace })
            return words.map(String.init)
        }

        /// Runs a program as a user, without capabilities; its exit status.
        static func run(_ arguments: [String], as user: String, _ pair: PairUnderTest) throws -> Outcome {
            try pair.run(["setpriv", "--reuid", user, "--regid", user, "--clear-groups"] + arguments)
        }

        static let isolated = ["host", "backend", "frontend vbd xvda", "frontend vbd xvdb"]

        @Test("E17, E18: each process of a pair is confined, and each frontend that root starts is a user of its own")
        func inForce() throws {
            let scratch = try Scratch()
            let disks = try ["a", "b"].map { "\(try scratch.makeImage("\($0).img", megabytes: 8)),raw,xvd\($0),w" }
            let pair = try PairUnderTest(disks: disks, in: scratch)
            var users: [String] = []
            for role in Self.isolated {
                let pid = try #require(pair.processes(role: role).first, "\(role)")
                #expect(Self.status(pid, "NoNewPrivs") == ["1"] && Self.status(pid, "Seccomp") == ["2"], "\(role)")
                users.append(Self.status(pid, "Uid")[0])
                guard role.hasPrefix("frontend") else { continue }
                #expect(Self.status(pid, "CapEff") == ["0000000000000000"], "\(role)")
                #expect(Self.status(pid, "CapPrm") == ["0000000000000000"], "\(role)")
                #expect(pair.running.errors.contains("causeway: frontend: confined: user \(users[users.count - 1]), "))
            }
            if Tools.isRoot { #expect(Set(users).count == 3 && users[0] == users[1], "\(users)") }
            #expect(!pair.running.errors.contains("none of its own"), "\(pair.running.errors)")
            #expect(pair.stop()?.status == 0)
        }

        @Test("E18: a frontend's user is neither the toolstack nor domain 0, and reads nobody's memory", .enabled(if: Tools.isRoot))
        func ownUser() throws {
            let scratch = try Scratch()
            let pair = try PairUnderTest(disks: ["\(try scratch.makeImage(megabytes: 8)),raw,xvda,w"], in: scratch)
            let user = Self.status(try #require(pair.processes(role: "frontend vbd").first), "Uid")[0]
            let backend = try #require(pair.processes(role: "backend").first)
            // What the host's own user may, to see that it can be done.
            #expect(try pair.run([Tools.causeway, "list"]).status == 0)
            #expect(try pair.run(["head", "-c", "1", "/proc/\(backend)/environ"]).status == 0)
            for words in [
                [Tools.causeway, "list"], [Tools.causeway, "domain-create", "mine"], [Tools.causeway, "backend"],
                ["head", "-c", "1", "/proc/\(backend)/environ"], ["ls", "/proc/\(backend)/fd/"], ["kill", "-0", "\(backend)"],
            ] {
                let outcome = try Self.run(words, as: user, pair)
                #expect(outcome.status != 0 && outcome.output.isEmpty, "\(words): \(outcome)")
            }
            #expect(pair.stop()?.status == 0)
        }

        @Test("E18: an interface's frontend that root starts is a user of its own, too", .enabled(if: Tools.isRoot))
        func interface() throws {
            let scratch = try Scratch()
            let pair = try PairUnderTest(disks: [], vifs: ["mac=00:16:3e:01:02:03"], in: scratch)
            let frontend = try #require(pair.processes(role: "frontend vif").first)
            let user = Self.status(frontend, "Uid")[0]
            #expect(user != "0" && Self.status(frontend, "NoNewPrivs") == ["1"] && Self.status(frontend, "Seccomp") == ["2"])
            // CAP_DAC_OVERRIDE, CAP_NET_ADMIN, CAP_SYS_PTRACE and CAP_SYS_ADMIN.
            #expect(Self.status(frontend, "CapEff") == ["0000000000281002"])
            #expect(try Self.run([Tools.causeway, "list"], as: user, pair).status != 0)
            #expect(!pair.running.errors.contains("none of its own"), "\(pair.running.errors)")
            #expect(pair.stop()?.status == 0)
        }

        @Test("E12, E17: where all is one user's, no process of a pair is looked into by another", .enabled(if: Tools.isRoot))
        func oneUser() throws {
            let scratch = try Scratch()
            let image = try scratch.makeImage(megabytes: 8)
            let runDirectory = "\(scratch.path)/run"
            try FileManager.default.createDirectory(atPath: runDirectory, withIntermediateDirectories: true)
            for path in [image, runDirectory] { #expect(chown(path, 65534, 65534) == 0) }
            let pair = try RunningProcess(
                [
                    "setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups", Tools.causeway, "pair", "--run-dir",
                    runDirectory, "--disk", "\(image),raw,xvda,w",
                ], in: scratch)
            #expect(eventually(30_000) { !pair.output.isEmpty || !pair.isRunning }, "\(pair.errors)")
            for role in ["host", "backend", "frontend vbd"] {
                let pid = try #require(ProcessTable.children(of: pair.pid, commandPrefix: "causeway \(role)").first, "\(role)")
                #expect(Self.status(pid, "NoNewPrivs") == ["1"] && Self.status(pid, "Seccomp") == ["2"], "\(role)")
                for file in ["environ", "maps"] {
                    let outcome = try RunningProcess.run(
                        [
                            "setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups", "head", "-c", "1",
                            "/proc/\(pid)/\(file)",
                        ],
                        in: scratch)
                    #expect(outcome.status != 0 && outcome.output.isEmpty, "\(role): \(file)")
                }
            }
            kill(pair.pid, SIGTERM)
            #expect(pair.wait(seconds: 20)?.status == 0)
        }

        @Test("--no-confinement leaves everything as it was, and says so of each process")
        func switchedOff() throws {
            let scratch = try Scratch()
            let pair = try PairUnderTest(
                disks: ["\(try scratch.makeImage(megabytes: 8)),raw,xvda,w"], options: ["--no-confinement"], in: scratch)
            for role in ["host", "backend", "frontend vbd"] {
                let pid = try #require(pair.processes(role: role).first, "\(role)")
                #expect(Self.status(pid, "NoNewPrivs") == ["0"] && Self.status(pid, "Seccomp") == ["0"], "\(role)")
            }
            #expect(pair.running.errors.components(separatedBy: "NOT CONFINED (--no-confinement)").count == 4)
            #expect(pair.stop()?.status == 0)
        }
    }
}
