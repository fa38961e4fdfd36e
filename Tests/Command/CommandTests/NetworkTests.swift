import Foundation
import TestSupport
import Testing

/// A pair with one interface, between two namespaces: everything on real taps. The checks themselves are a script,
/// which `make test-network` runs to its whole extent.
extension EndToEnd {
    @Suite("Network interfaces on real taps (as root)", .enabled(if: getuid() == 0 && access("/dev/net/tun", F_OK) == 0))
    struct Network {
        static let vif = "mac=00:16:3e:01:02:03"

        static var checks: String { Checkout.root + "/tools/network/checks.sh" }

        /// A pair that runs `checks`; it leaves no namespace and no interface.
        private func check(_ checks: String, vif: String = Self.vif, options: [String] = [], seconds: Double = 60) throws {
            let scratch = try Scratch()
            let running = try RunningProcess(
                [Tools.causeway, "pair", "--vif", vif] + options + ["--", Self.checks]
                    + checks.split(separator: " ").map(String.init),
                in: scratch)
            let outcome = try #require(
                running.wait(seconds: seconds), "\(checks): \(running.output) \(running.errors.suffix(2000))")
            #expect(outcome.status == 0, "\(outcome.output) \(outcome.errors)")
            #expect(try Self.leftovers(of: running.pid) == [])
        }

        /// Namespaces and taps that a pair made and that are still there.
        private static func leftovers(of pair: Int32) throws -> [String] {
            let names = (try? FileManager.default.contentsOfDirectory(atPath: "/run/netns")) ?? []
            return names.filter { $0.hasPrefix("causeway-\(pair)-") }
                + (try FileManager.default.contentsOfDirectory(atPath: "/sys/class/net").filter { $0.hasPrefix("cw\(pair).") })
        }

        @Test("pings of many sizes to 65507 bytes, floods, a file over HTTP", arguments: [Self.vif, Self.vif + ",mtu=9000"])
        func packets(_ vif: String) throws { try check("sizes flood file", vif: vif) }

        @Test("TCP and paced UDP, both ways, one and eight streams, IPv4 and IPv6")
        func streams() throws { try check("streams") }

        @Test("the same bytes with each of ethtool's offloads off, and with all")
        func offloads() throws { try check("offloads") }

        @Test(
            "the same bytes with each feature of the protocol off",
            arguments: [
                ["--no-sg"], ["--no-gso4"], ["--no-csum4"], ["--no-csum6"], ["--no-grant-mapping"],
                ["--no-control-ring", "--no-split"], ["--vif-queues", "2"],
                ["--vif-queues", "4", "--reactors", "2"],
            ])
        func transfers(_ options: [String]) throws { try check("echo", options: options) }

        @Test("kill -9 of the backend under iperf3: the stream goes on within a second")
        func backendKilled() throws { try check("backend_killed") }

        @Test(
            "the same with journals, three times: rings and mapped pages are taken over",
            arguments: [["1"], ["3"], ["3", "--reactors", "2"]])
        func backendTakenOver(queues: [String]) throws {
            try check("backend_taken_over", options: ["--journal", "--vif-queues"] + queues)
        }

        @Test(
            "a frontend that is asked to end: every counter is where it was, no namespace or tap of its is left, the other serves on"
        )
        func frontendEnded() throws {
            let scratch = try Scratch()
            let baseline = try {
                let pair = try PairUnderTest(disks: [], vifs: [Self.vif], in: scratch)
                let counters = try Self.settledCounters(pair)
                #expect(pair.stop()?.status == 0)
                return counters
            }()
            let pair = try PairUnderTest(disks: [], vifs: [Self.vif, "mac=00:16:3e:01:02:04"], in: scratch)
            #expect(try Self.counters(pair) != baseline)
            #expect(try Self.leftovers(of: pair.running.pid).count == 4)
            for pid in pair.processes(role: "frontend vif 1") { kill(pid, SIGTERM) }
            #expect(
                eventually(10_000) {
                    pair.running.errors.contains("vif 1: the frontend exited with status 0; its domain 2 is destroyed")
                })
            var last = ""
            #expect(
                try eventually(10_000) {
                    last = try Self.counters(pair)
                    return last == baseline
                }, "baseline:\n\(baseline)\nnow:\n\(last)")
            #expect(try eventually(10_000) { try Self.leftovers(of: pair.running.pid).count == 2 })
            #expect(pair.stop()?.status == 0)
            #expect(try Self.leftovers(of: pair.running.pid) == [])
        }

        @Test("kill -9 of a frontend: it is started again, with its tap, its address and its counters")
        func frontendKilled() throws {
            let scratch = try Scratch()
            let pair = try PairUnderTest(disks: [], vifs: [Self.vif], in: scratch)
            let number = pair.running.pid
            for words in [
                ["addr", "add", "192.0.2.1/24", "dev", "cw\(number).0"],
                ["-n", "causeway-\(number)-0", "addr", "add", "192.0.2.2/24", "dev", "eth0"],
            ] { #expect(try pair.run(["ip"] + words).status == 0) }
            func pings() throws -> Bool { try pair.run(["ping", "-c", "1", "-W", "1", "192.0.2.2"]).status == 0 }
            #expect(try eventually(10_000, pings))
            let before = try Self.settledCounters(pair)
            for pid in pair.processes(role: "frontend vif 0") { kill(pid, SIGKILL) }
            let line = "pair: vif 0: the frontend was killed by signal 9; starting it again\n"
            #expect(eventually(10_000) { pair.running.errors.contains(line) })
            #expect(try eventually(20_000, pings), "\(pair.running.errors)")
            #expect(try eventually(10_000) { try Self.settledCounters(pair) == before }, "before:\n\(before)")
            #expect(pair.stop()?.status == 0)
            #expect(try Self.leftovers(of: number) == [])
        }

        private static func counters(_ pair: PairUnderTest) throws -> String {
            let outcome = try pair.run([Tools.causeway, "status"])
            #expect(outcome.status == 0, "\(outcome.errors)")
            // What the host holds; below stand the devices, whose frames nobody counts on.
            return outcome.output.components(separatedBy: "\n\n")[0]
        }

        /// The counters once they stand still: pages are mapped for a moment after a frontend is connected.
        private static func settledCounters(_ pair: PairUnderTest) throws -> String {
            var last = try counters(pair)
            _ = try eventually(10_000) {
                usleep(300_000)
                let next = try counters(pair)
                defer { last = next }
                return next == last
            }
            return last
        }

        @Test("kill -9 of the pair itself: namespaces and taps are gone soon")
        func pairKilled() throws {
            let scratch = try Scratch()
            let running = try RunningProcess([Tools.causeway, "pair", "--vif", "mac=00:16:3e:01:02:04"], in: scratch)
            #expect(eventually(20_000) { running.output.contains("vif 0") })
            #expect(try Self.leftovers(of: running.pid).count == 2)
            kill(running.pid, SIGKILL)
            _ = running.wait(seconds: 10)
            #expect(eventually(10_000) { (try? Self.leftovers(of: running.pid).isEmpty) == true })
        }

        @Test("rate changes while frames flow; a script of xl's kind is called; both are undone")
        func rateAndScript() throws {
            let scratch = try Scratch()
            let hook = try scratch.makeFile("hook")
            try hook.write(
                contentsOf: Foundation.Data(
                    """
                    #!/bin/sh
                    echo "$1 $vif $XENBUS_PATH $XENBUS_TYPE $(xenstore-read "$XENBUS_PATH/mac")" >> '\(scratch.path)/calls'

                    """.utf8))
            // A file that somebody may still write is not run.
            try hook.close()
            chmod("\(scratch.path)/hook", 0o755)
            let script = """
                set -e; cd '\(scratch.path)'; A=10.76.$(($PPID % 250))
                there() { ip netns exec $CAUSEWAY_NETNS_0 "$@"; }
                ip addr add $A.1/24 dev $CAUSEWAY_TAP_BACK_0; there ip addr add $A.2/24 dev $CAUSEWAY_TAP_FRONT_0
                NODE=/local/domain/0/backend/vif/1/0
                send() { there python3 -c "
                import socket, time
                c = socket.create_connection(('$A.1', 5556)); c.sendall(b'x' * 3000000); c.shutdown(1); c.recv(1)"; }
                serve() { python3 -c "
                import socket
                s = socket.create_server(('$A.1', 5556)); open('ready', 'w').close()
                while True:
                    c, _ = s.accept()
                    while c.recv(1 << 20): pass
                    c.close()" & }
                serve; for i in $(seq 200); do [ -e ready ] && break; sleep 0.05; done
                now() { date +%s%N; }
                T0=$(now); send; T1=$(now)
                xenstore-write $NODE/rate 100000,100000; sleep 0.3
                T2=$(now); send; T3=$(now)
                echo $(((T1 - T0) / 1000000)) $(((T3 - T2) / 1000000)) > times
                """
            let file = try scratch.makeFile("script.sh")
            try file.write(contentsOf: Foundation.Data(script.replacingOccurrences(of: "\n                ", with: "\n").utf8))
            let running = try RunningProcess(
                [
                    Tools.causeway, "pair", "--vif", Self.vif + ",script=\(scratch.path)/hook", "--", "bash",
                    "\(scratch.path)/script.sh",
                ],
                in: scratch)
            let outcome = try #require(running.wait(seconds: 60), "\(running.output) \(running.errors)")
            #expect(outcome.status == 0, "\(outcome.output) \(outcome.errors)")
            let times = scratch.read("times").split(whereSeparator: { $0 == " " || $0 == "\n" }).compactMap { Int($0) }
            // 3 MB at 1 MB/s, less one burst.
            #expect(times.count == 2 && times[1] > 2000 && times[1] > times[0], "\(times)")
            let calls = scratch.read("calls").split(separator: "\n").map(String.init)
            let rest = "cw\(running.pid).0 backend/vif/1/0 vif 00:16:3e:01:02:03"
            // When it is let go its directory has gone.
            #expect(
                calls.count == 2 && calls.first == "online \(rest)" && calls.last?.hasPrefix("offline \(rest.prefix(20))") == true,
                "\(calls)")
        }
    }
}
