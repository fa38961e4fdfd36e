// libcauseway-libxen as programs of Xen's libraries meet it: what it shows, and what each function does.

import Foundation
import TestSupport
import Testing

extension EndToEnd {
    @Suite("Xen's libraries") struct XenLibrary {
        private let scratch: Scratch
        private var library: String { "\(Tools.buildDirectory)/libcauseway-libxen.so" }
        private static let contracts = ["contracts.c", "peer.c", "grants.c", "events.c", "concurrency.c"]
        private static let xen = ["xengnttab", "xenevtchn", "xenforeignmemory", "xencall", "xentoolcore", "xentoollog"]

        init() throws { scratch = try Scratch() }

        @Test("acceptance 13: what Debian's four libraries show, under their version nodes, and nothing else") func symbols() throws
        {
            func shown(_ file: String) throws -> Set<String> {
                let table = try RunningProcess.run(["nm", "-D", "--defined-only", "--with-symbol-versions", file], in: scratch)
                return Set(table.output.split(separator: "\n").compactMap { $0.split(separator: " ").last.map(String.init) })
                    .filter { $0.contains("@@VERS_") && !$0.hasPrefix("VERS_") }
            }
            var expected: Set<String> = []
            for name in Self.xen.prefix(4) { try expected.formUnion(shown("/usr/lib/x86_64-linux-gnu/lib\(name).so.1")) }
            #expect(expected.count == 56)
            #expect(try shown(library) == expected)
            let all = try RunningProcess.run(["nm", "-D", "--defined-only", library], in: scratch).output
            // A small letter is a local symbol, which nobody binds to.
            let others = all.split(separator: "\n").filter { !$0.contains(" xen") && !$0.contains(" VERS_") && !$0.contains(" d ") }
            #expect(others.isEmpty, "\(others.prefix(5))")
        }

        @Test("acceptance 13: the one file under four names is loaded once, and without a complaint") func loading() throws {
            let host = try XenHost(in: scratch)
            let outcome = try RunningProcess.run(
                [Tools.causeway, "xen-run", "--", "sh", "-c", "exec env LD_BIND_NOW=1 LD_DEBUG=files lsevtchn 0"],
                environment: ["CAUSEWAY_RUN_DIR": host.runDirectory, "PATH": Self.path], in: scratch)
            #expect(outcome.status == 0 && !outcome.errors.contains("no version information"), "\(outcome.errors.suffix(2000))")
            let starts = outcome.errors.split(separator: "\n").filter {
                $0.contains("calling init:") && $0.contains("libcauseway-libxen")
                    || $0.contains("calling init:") && $0.contains("/libxen/lib")
            }
            #expect(starts.count == 1, "\(starts)")
        }

        static let path = "/usr/lib/xen-4.17/bin:/usr/sbin:/usr/bin:/sbin:/bin"

        @Test("acceptance 11 and 12: the contracts, each with its error number") func contracts() throws {
            let host = try XenHost(in: scratch)
            let program = try host.compile(Self.contracts, libraries: Self.xen)
            let outcome = try host.xenRun([program], seconds: 150)
            #expect(outcome.status == 0 && outcome.output.isEmpty && outcome.errors.isEmpty, "\(outcome)")
            #expect(try host.settles(), "\(host.usageText)")
        }

        @Test("acceptance 11: the same under the sanitizers", arguments: ["address", "thread"])
        func sanitized(_ sanitizer: String) throws {
            let host = try XenHost(in: scratch)
            let program = try host.compile(Self.contracts, options: ["-fsanitize=\(sanitizer)"], libraries: Self.xen)
            // Faults on purpose are the other test's; a sanitizer has its own handler for them.
            for part in ["copies", "events", "shares", "foreign", "calls", "threads", "forks"] {
                // The library's own locks are no pthread's: what it does inside is not this sanitizer's to judge.
                let outcome = try host.xenRun(
                    ["env", "TSAN_OPTIONS=ignore_noninstrumented_modules=1", program, part], seconds: 150)
                #expect(outcome.status == 0 && outcome.output.isEmpty && outcome.errors.isEmpty, "\(part): \(outcome)")
            }
            #expect(try host.settles(), "\(host.usageText)")
        }

        @Test("domains are made for a user, who is that domain and no other, and ended (needs root)", .enabled(if: Tools.isRoot))
        func users() throws {
            let host = try XenHost(domains: 0, in: scratch)
            let made = try host.run(["domain-create", "alpha", "--id", "7", "--user", "4321", "--memory", "64"])
            #expect(made.status == 0 && made.output == "7\n", "\(made)")
            let question = [
                "sh", "-c", "id -u; xenstore-read domid; xenstore-read memory/target; xenstore-read /local/domain/0/domid",
            ]
            let own = try host.run(["xen-run", "--domain", "7", "--user", "4321", "--"] + question)
            #expect(own.output == "4321\n7\n65536\n" && own.status == 1 && own.errors.contains("/local/domain/0/domid"), "\(own)")
            // By its name, for whoever may ask the store; and as a program of the libraries'.
            #expect(try host.run(["xen-run", "--domain", "alpha", "--", "xenstore-read", "domid"]).output == "7\n")
            let ports = ["\(XenPrograms.tools)/lsevtchn", "7"]
            #expect(try host.run(["xen-run", "--domain", "7", "--user", "4321", "--"] + ports).status == 0)
            for (domain, user) in [("0", "4321"), ("7", "4322")] {
                let refused = try host.run(["xen-run", "--domain", domain, "--user", user, "--", ports[0], domain])
                #expect(refused.status != 0 && refused.errors.contains("this user may not act as domain \(domain)"), "\(refused)")
            }
            #expect(try host.run(["domain-create", "alpha"]).errors == "causeway: domain-create: there is a domain `alpha`\n")
            #expect(try host.run(["domain-create", "--id", "7"]).status == 1)
            #expect(try host.run(["domain-create", "12"]).status == 2)
            #expect(try host.run(["domain-destroy", "0"]).status == 2)
            #expect(try host.run(["domain-destroy", "alpha"]).status == 0)
            #expect(try host.run(["domain-destroy", "alpha"]).status == 1)
            #expect(try host.run(["xen-run", "--domain", "7", "--", "true"]).status == 1)
            #expect(try host.run(["xen-run"]).status == 2)
            let missing = try host.run(["xen-run", "--", "no-such-program"])
            #expect(
                missing.errors == "causeway: no-such-program: cannot run it: no such program in the PATH\n"
                    && missing.status == 127,
                "\(missing)")
            #expect(try host.usage()["domains"] == 1)
        }

        @Test("without a host, as no domain, or with a dead one: a line, an error number, and the program lives")
        func noHost() throws {
            let host = try XenHost(in: scratch)
            let program = try host.compile(["refused.c"], libraries: Self.xen)
            func attempt(_ environment: [String: String]) throws -> Outcome {
                let libraries = "\(Tools.buildDirectory)/libxen"
                return try RunningProcess.run(
                    [program], environment: environment.merging(["LD_LIBRARY_PATH": libraries]) { $1 }, in: scratch)
            }
            // Makes the directory of names.
            #expect(try host.xenRun(["true"]).status == 0)
            let nowhere = try attempt(["CAUSEWAY_RUN_DIR": "\(scratch.path)/none"])
            #expect(nowhere.output == "ENOENT ENOENT ENOENT ENOENT\n", "\(nowhere)")
            #expect(nowhere.errors.split(separator: "\n").count == 4 && nowhere.errors.contains("is `causeway host` running?"))
            let noDomain = try attempt(["CAUSEWAY_RUN_DIR": host.runDirectory, "CAUSEWAY_DOMAIN": "9"])
            #expect(
                noDomain.output == "ENODEV ENODEV ENODEV ENODEV\n" && noDomain.errors.contains("there is no domain 9"),
                "\(noDomain)")
            let nonsense = try attempt(["CAUSEWAY_RUN_DIR": host.runDirectory, "CAUSEWAY_DOMAIN": "dom1"])
            #expect(nonsense.output == "ENODEV ENODEV ENODEV ENODEV\n", "\(nonsense)")
            // The host dies under a program that has all it wants.
            let running = try host.startXen([program, "wait"])
            #expect(eventually(5000) { running.output == "open\n" }, "\(running.errors)")
            host.stop(SIGKILL)
            kill(running.pid, SIGUSR1)
            let outcome = try #require(running.wait(seconds: 10))
            #expect(outcome.status == 0 && outcome.output == "open\nEIO EIO EIO\n", "\(outcome)")
        }

        @Test("a handle opened after the host's end leads to the next host, as the domain that the environment says then")
        func nextHost() throws {
            var host = try XenHost(in: scratch)
            let program = try host.compile(["refused.c"], libraries: Self.xen)
            let running = try host.startXen([program, "again"])
            #expect(eventually(5000) { running.output == "open\n" }, "\(running.errors)")
            host.stop()
            host = try XenHost(in: scratch)
            kill(running.pid, SIGUSR1)
            let outcome = try #require(running.wait(seconds: 10))
            #expect(outcome.status == 0 && outcome.output == "open\nrung\n", "\(outcome)")
            #expect(try host.settles(), "\(host.usageText)")
        }

        @Test("hostile use: who maps, asks for notices and dies at any step, in either order, leaves nothing and disturbs nobody")
        func deaths() throws {
            let host = try XenHost(domains: 4, in: scratch)
            let program = try host.compile(["dies.c"], libraries: Self.xen, name: "dies")
            let vchan = try host.compile(["vchan.c"], libraries: ["xenvchan", "xenstore", "xentoollog"], name: "vchan")
            let path = "/local/domain/3/data/vchan"
            for offered in 1...5 {
                // Two others go on meanwhile.
                let sender = try host.startXen([vchan, "send", "4", path, "65536"], domain: 3)
                #expect(eventually(20_000) { sender.output.hasPrefix("serving\n") }, "\(sender.errors)")
                let receiver = try host.startXen([vchan, "receive", "3", path], domain: 4)
                for (taken, granterFirst) in (1...6).flatMap({ taken in [true, false].map { (taken, $0) } }) {
                    let granter = try host.startXen([program, "offer", "2", "\(offered)"], domain: 1)
                    #expect(eventually(10_000) { granter.output.hasSuffix("\n") || !granter.isRunning }, "\(granter.errors)")
                    let numbers = granter.output.split(whereSeparator: \.isWhitespace).map(String.init)
                    try #require(numbers.count == 2, "\(granter.output) \(granter.errors)")
                    let mapper = try host.startXen([program, "take", "1", "\(taken)"] + numbers, domain: 2)
                    #expect(eventually(10_000) { mapper.output == "there\n" || !mapper.isRunning }, "\(mapper.errors)")
                    #expect(granter.isRunning && mapper.isRunning, "\(offered) \(taken): \(granter.errors) \(mapper.errors)")
                    for running in granterFirst ? [granter, mapper] : [mapper, granter] {
                        kill(running.pid, SIGKILL)
                        _ = running.wait(seconds: 5)
                    }
                }
                let outcome = try #require(receiver.wait(seconds: 60))
                #expect(outcome.status == 0 && outcome.output.contains("8388608 bytes are right"), "\(outcome)")
                #expect(try #require(sender.wait(seconds: 10)).status == 0)
                #expect(try host.settles(), "\(host.usageText)")
            }
        }
    }
}
