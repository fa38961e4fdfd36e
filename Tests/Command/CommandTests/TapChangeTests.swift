import Foundation
import TestSupport
import Testing

/// What an administrator does to the taps of a pair that runs, and what of that is still so when its backend was
/// killed.
extension EndToEnd {
    @Suite("Taps that are changed in use (as root)", .enabled(if: getuid() == 0 && access("/dev/net/tun", F_OK) == 0))
    struct TapChanges {
        /// A pair with one interface, its addresses, and what is needed to look at it.
        private final class Wire {
            let pair: PairUnderTest
            let near: String
            let namespace: String
            /// A namespace and names of the test's own.
            let own: String
            /// Addresses that no interface of this machine has.
            let here: String
            let far: String

            init(vif: String = "", options: [String] = []) throws {
                pair = try PairUnderTest(
                    disks: [], vifs: ["mac=00:16:3e:01:02:03" + vif], options: options, in: Scratch())
                let pid = pair.running.pid
                own = "cwx\(pid)"
                (here, far) = ("198.18.\(pid % 250).1", "198.18.\(pid % 250).2")
                namespace = "causeway-\(pid)-0"
                near =
                    vif.components(separatedBy: "vifname=").dropFirst().first.map { $0.components(separatedBy: ",")[0] }
                    ?? "cw\(pid).0"
            }

            deinit {
                _ = pair.stop()
                _ = try? pair.run(["ip", "netns", "delete", own])
            }

            @discardableResult func ip(_ words: String) throws -> Outcome {
                try pair.run(["ip"] + words.components(separatedBy: " "))
            }

            /// Addresses on both ends; the near one in a namespace if one is named.
            func address(in other: String? = nil) throws {
                let place = other.map { "-n \($0) " } ?? ""
                #expect(try ip(place + "addr add \(here)/24 dev \(near)").status == 0)
                #expect(try ip(place + "link set \(near) up").status == 0)
                #expect(try ip("-n \(namespace) addr add \(far)/24 dev eth0").status == 0)
            }

            func pings(in other: String? = nil, size: Int = 56) throws -> Bool {
                let place = other.map { ["ip", "netns", "exec", $0] } ?? []
                let words = ["ping", "-q", "-M", "do", "-c", "1", "-W", "1", "-s", "\(size)", far]
                return try pair.run(place + words).status == 0
            }

            /// Kills the frontend and waits until the next one is connected.
            func killFrontend() throws {
                let before = pair.processes(role: "frontend")
                let connections = pair.running.errors.components(separatedBy: "netfront: vif 0: connected").count
                for pid in before { kill(pid, SIGKILL) }
                #expect(
                    eventually(10_000) {
                        pair.running.errors.components(separatedBy: "netfront: vif 0: connected").count > connections
                    })
            }

            /// Kills the backend and waits for the next one.
            func killBackend() throws {
                let before = pair.processes(role: "backend")
                for pid in before { kill(pid, SIGKILL) }
                #expect(
                    eventually(10_000) { pair.processes(role: "backend") != before && !pair.processes(role: "backend").isEmpty })
            }
        }

        @Test("moved into a namespace, a tap stays there and works when the backend returns", arguments: [[], ["--journal"]])
        func moved(_ options: [String]) throws {
            let wire = try Wire(options: options)
            #expect(try wire.ip("netns add \(wire.own)").status == 0)
            #expect(try wire.ip("link set \(wire.near) netns \(wire.own)").status == 0)
            try wire.address(in: wire.own)
            #expect(try eventually(5000) { try wire.pings(in: wire.own) })
            #expect(eventually { wire.pair.running.errors.contains("tap \(wire.near): moved into network namespace") })
            for _ in 0..<2 {
                try wire.killBackend()
                #expect(try eventually(10_000) { try wire.pings(in: wire.own) }, "\(wire.pair.running.errors)")
                #expect(try wire.ip("link show \(wire.near)").status != 0, "no second one was made")
            }
        }

        @Test("renamed, moved and set down on the frontend's side, a tap is the same one when the frontend returns")
        func frontendsTap() throws {
            let wire = try Wire()
            try wire.address()
            #expect(try eventually(5000) { try wire.pings() })
            #expect(try wire.ip("-n \(wire.namespace) link set eth0 down").status == 0)
            #expect(try wire.ip("-n \(wire.namespace) link set eth0 name inner0").status == 0)
            try wire.killFrontend()
            #expect(try wire.ip("-n \(wire.namespace) -o link show inner0").output.contains("state DOWN"), "it stays down")
            #expect(try wire.ip("-n \(wire.namespace) link show eth0").status != 0, "no second one was made")
            #expect(try wire.ip("netns add \(wire.own)").status == 0)
            #expect(try wire.ip("-n \(wire.namespace) link set inner0 netns \(wire.own)").status == 0)
            #expect(try wire.ip("-n \(wire.own) addr add \(wire.far)/24 dev inner0").status == 0)
            #expect(try wire.ip("-n \(wire.own) link set inner0 up").status == 0)
            #expect(try eventually(5000) { try wire.pings() })
            try wire.killFrontend()
            #expect(try eventually(10_000) { try wire.pings() }, "\(wire.pair.running.errors)")
            #expect(try wire.ip("-n \(wire.namespace) link show eth0").status != 0, "no second one was made")
        }

        @Test("what an administrator or a script wants less of by ethtool is not offloaded when a driver comes anew")
        func offloads() throws {
            guard access("/usr/sbin/ethtool", X_OK) == 0 else { return }
            let wire = try Wire()
            func isOn() throws -> Bool {
                try wire.pair.run(["ethtool", "-k", wire.near]).output.contains("tcp-segmentation-offload: on")
            }
            #expect(try eventually(5000) { try isOn() })
            #expect(try wire.pair.run(["ethtool", "-K", wire.near, "tso", "off"]).status == 0)
            #expect(try !isOn())
            try wire.killBackend()
            try wire.address()
            #expect(try eventually(10_000) { try wire.pings() })
            #expect(try !isOn())
            #expect(try wire.pair.run(["ethtool", "-K", wire.near, "tso", "on"]).status == 0)
            #expect(try isOn())
        }

        @Test("a tap that is deleted: its side's log, the other side's carrier, and both sides' counters tell")
        func deleted() throws {
            let wire = try Wire()
            try wire.address()
            #expect(try eventually(5000) { try wire.pings() })
            #expect(try wire.ip("link delete \(wire.near)").status == 0)
            #expect(eventually { wire.pair.running.errors.contains("\(wire.near) is gone: somebody deleted it") })
            #expect(try eventually { try wire.ip("-n \(wire.namespace) -br link show eth0").output.contains("NO-CARRIER") })
        }

        @Test("the frontend's: its process says so and ends, the backend's tap has no carrier")
        func farDeleted() throws {
            let wire = try Wire()
            try wire.address()
            #expect(try wire.ip("-n \(wire.namespace) link delete eth0").status == 0)
            #expect(eventually(5000) { wire.pair.running.errors.contains("eth0 is gone: somebody deleted it") })
        }

        @Test(
            "an MTU that is shown passes, both ways, whatever the other side takes",
            arguments: [["--no-sg"], ["--no-gso4", "--no-gso6"], []], [9000, 20_000])
        func shownMTU(_ options: [String], _ mtu: Int) throws {
            let wire = try Wire(vif: ",mtu=\(mtu)", options: options)
            try wire.address()
            #expect(try eventually(5000) { try wire.pings() })
            for place in ["", "-n \(wire.namespace) "] {
                let device = place.isEmpty ? wire.near : "eth0"
                let shown = try wire.ip(place + "-o link show \(device)").output.components(separatedBy: " mtu ").last?
                    .components(separatedBy: " ").first.flatMap { Int($0) }
                #expect(shown == (options == ["--no-sg"] ? 4078 : mtu))
                let other = place.isEmpty ? wire.far : wire.here
                let inside = place.isEmpty ? [] : ["ip", "netns", "exec", wire.namespace]
                let words = ["ping", "-q", "-M", "do", "-c", "3", "-i", "0.2", "-W", "1", "-s", "\((shown ?? 0) - 28)", other]
                let ping = try wire.pair.run(inside + words)
                #expect(ping.output.contains(" 0% packet loss"), "\(ping)")
            }
        }

        @Test("a tap that was made with a single queue works with one, and the log says so once")
        func singleQueue() throws {
            let scratch = try Scratch()
            let name = "cws\(getpid() % 100_000)"
            #expect(try RunningProcess.run(["ip", "tuntap", "add", "dev", name, "mode", "tap"], in: scratch).status == 0)
            defer { _ = try? RunningProcess.run(["ip", "link", "delete", name], in: scratch) }
            do {
                let wire = try Wire(vif: ",vifname=\(name)", options: ["--vif-queues", "2"])
                try wire.address()
                #expect(try eventually(5000) { try wire.pings() }, "\(wire.pair.running.errors)")
                #expect(wire.pair.running.errors.components(separatedBy: "\(name) was made for 1 queue").count == 2)
                try wire.killBackend()
                #expect(try eventually(10_000) { try wire.pings() }, "\(wire.pair.running.errors)")
            }
            #expect(try RunningProcess.run(["ip", "link", "show", name], in: scratch).status == 0, "it stays")
        }

        @Test("what both sides drop is counted by reason, in status and metrics")
        func counters() throws {
            let wire = try Wire()
            let status = try wire.pair.run([Tools.causeway, "status"]).output
            #expect(status.contains("\nvif-1/0\n") && status.contains("\nnetfront-1/0\n"))
            let metrics = try wire.pair.run([Tools.causeway, "metrics"]).output
            for (side, direction, reason) in [
                ("vif", "receive", "expired"), ("vif", "transmit", "no-carrier"), ("netfront", "transmit", "spoilt"),
            ] {
                let labels = try Regex(
                    "causeway_\(side)_drops_total\\{domain=\"1\",device=\"0\",[^}]*,direction=\"\(direction)\",reason=\"\(reason)\"} 0\n"
                )
                #expect(metrics.contains(labels), "\(side) \(direction) \(reason): \(metrics)")
            }
        }

        @Test("VLANs: taken into the backend's node; refused where the bridge would not keep them apart, before anything starts")
        func vlans() throws {
            let wire = try Wire(vif: ",vlan=5")
            let node = try wire.pair.run(["xenstore-read", "/local/domain/0/backend/vif/1/0/vlan"])
            #expect(node.output == "5\n")
            let bridge = "\(wire.own)b"
            #expect(try wire.ip("link add \(bridge) type bridge").status == 0)
            defer { _ = try? wire.ip("link delete \(bridge)") }
            let refused = try wire.pair.run([Tools.causeway, "pair", "--vif", "bridge=\(bridge),vlan=5", "--", "true"])
            #expect(refused.status == 2 && refused.errors.hasPrefix("causeway: --vif: vlan: 5: bridge \(bridge) "), "\(refused)")
        }

        @Test("without mtu= both ends have the bridge's")
        func bridgeMTU() throws {
            let scratch = try Scratch()
            let bridge = "cwb\(getpid() % 100_000)"
            #expect(
                try RunningProcess.run(["ip", "link", "add", bridge, "mtu", "8000", "type", "bridge"], in: scratch).status == 0)
            defer { _ = try? RunningProcess.run(["ip", "link", "delete", bridge], in: scratch) }
            let wire = try Wire(vif: ",bridge=\(bridge)")
            #expect(try wire.ip("-o link show \(wire.near)").output.contains(" mtu 8000 "))
            #expect(try wire.ip("-n \(wire.namespace) -o link show eth0").output.contains(" mtu 8000 "))
        }
    }
}
