import Foundation
import Testing

/// A pair with one interface, between two namespaces: everything on real taps.
extension EndToEnd {
    @Suite("Network interfaces on real taps (as root)", .enabled(if: getuid() == 0 && access("/dev/net/tun", F_OK) == 0))
    struct Network {
        /// Addresses for both ends, in a range of this process's own.
        static let addresses = """
            A=10.$((\(getpid()) / 250 % 250 + 1)).$((\(getpid()) % 250 + 1))
            ip addr add $A.1/24 dev $CAUSEWAY_TAP_BACK_0
            ip -6 addr add fd00:$((\(getpid()) % 9999))::1/64 dev $CAUSEWAY_TAP_BACK_0 nodad
            on() { ip netns exec $CAUSEWAY_NETNS_0 "$@"; }
            on ip addr add $A.2/24 dev $CAUSEWAY_TAP_FRONT_0
            on ip -6 addr add fd00:$((\(getpid()) % 9999))::2/64 dev $CAUSEWAY_TAP_FRONT_0 nodad
            ping -q -c 1 -W 5 $A.2 >/dev/null

            """

        private func pair(_ script: String, options: [String] = [], seconds: Double = 90) throws -> Outcome {
            let scratch = try Scratch()
            let text = "set -e; cd '\(scratch.path)'\n" + Self.addresses + script
            let outcome = try RunningProcess.run(
                [Tools.causeway, "pair", "--vif", "mac=00:16:3e:01:02:03"] + options + ["--", "bash", "-c", text], in: scratch,
                seconds: seconds)
            return outcome
        }

        private static func leftovers() throws -> [String] {
            let names = (try? FileManager.default.contentsOfDirectory(atPath: "/run/netns")) ?? []
            return names.filter { $0.hasPrefix("causeway-") }
                + (try FileManager.default.contentsOfDirectory(atPath: "/sys/class/net").filter { $0.hasPrefix("cw") })
        }

        @Test("ping of every kind of size, to 65507 bytes, and 500 as fast as they go")
        func ping() throws {
            let outcome = try pair(
                """
                for size in 0 1 56 1472 1473 4054 4055 8000 30000 65507; do ping -q -c 2 -i 0.01 -W 5 -s $size $A.2 | grep ' 0% packet loss'; done
                ping -q -c 2 -i 0.01 -W 5 -s 60000 fd00:$((\(getpid()) % 9999))::2 | grep ' 0% packet loss'
                ping -q -f -c 500 $A.2 | grep ' 0% packet loss'
                """)
            #expect(outcome.status == 0, "\(outcome.output) \(outcome.errors)")
            #expect(try Self.leftovers() == [])
        }

        @Test("kill -9 of the pair itself: namespaces and taps are gone soon")
        func pairKilled() throws {
            let scratch = try Scratch()
            let running = try RunningProcess([Tools.causeway, "pair", "--vif", "mac=00:16:3e:01:02:04"], in: scratch)
            #expect(eventually(seconds: 20) { running.output.contains("vif 0") })
            #expect(try Self.leftovers().count == 2)
            kill(running.pid, SIGKILL)
            _ = running.wait(seconds: 10)
            #expect(eventually(seconds: 10) { (try? Self.leftovers().isEmpty) == true })
        }
    }
}
