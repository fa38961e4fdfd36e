import Foundation
import TestSupport
import Testing

extension EndToEnd {
    /// `causeway trace` beside a running pair: what other programs make of it, and how it ends.
    @Suite("Traces of interfaces on real taps (as root)", .enabled(if: getuid() == 0 && access("/dev/net/tun", F_OK) == 0))
    struct Trace {
        /// Runs a script in a pair with one interface and an address at each end: `$A.1` and `$A.2`.
        private func pair(_ script: String, in scratch: Scratch) throws -> Outcome {
            let file = try scratch.makeFile("script.sh")
            let preamble = """
                set -e; cd '\(scratch.path)'; export PATH="\(Tools.buildDirectory):$PATH"
                A=10.$((\(getpid()) / 250 % 250 + 1)).$((\(getpid()) % 250 + 1))
                ip addr add $A.1/24 dev $CAUSEWAY_TAP_BACK_0
                on() { ip netns exec $CAUSEWAY_NETNS_0 "$@"; }
                on ip addr add $A.2/24 dev $CAUSEWAY_TAP_FRONT_0
                trap 'kill $(jobs -p) 2>/dev/null || true' EXIT
                # A trace has begun when its file has a beginning.
                begun() { for i in $(seq 200); do [ -s "$1" ] && return 0; sleep 0.05; done; echo "no trace in $1" >&2; return 1; }
                ping -q -c 1 -W 5 $A.2 >/dev/null

                """
            try file.write(contentsOf: Foundation.Data((preamble + script).utf8))
            // One queue: which of several a frame takes is the tap's choice.
            return try RunningProcess.run(
                [
                    Tools.causeway, "pair", "--vif-queues", "1", "--vif", "mac=00:16:3e:01:02:03", "--", "bash",
                    "\(scratch.path)/script.sh",
                ], in: scratch, seconds: 90)
        }

        private func file(_ name: String, in scratch: Scratch) throws -> PcapngFile {
            try PcapngFile([UInt8](FileManager.default.contents(atPath: "\(scratch.path)/\(name)") ?? Foundation.Data()))
        }

        @Test("requests and replies of a ping with their slots, for tcpdump and tshark as for us; Ctrl-C ends a whole file")
        func ping() throws {
            let scratch = try Scratch()
            let outcome = try pair(
                """
                causeway trace 1/0 -w ping.pcapng 2>trace.log & TRACE=$!
                begun ping.pcapng
                ping -q -c 5 -i 0.05 -s 5000 $A.2 >/dev/null
                sleep 0.2; kill -INT $TRACE; wait $TRACE
                [ $(stat -c %a ping.pcapng) = 600 ]
                tcpdump -n -r ping.pcapng icmp > tcpdump.txt
                tshark -n -r ping.pcapng -Y 'icmp.type == 8 && icmp.type != 0' -T fields -e frame.packet_flags_direction -e frame.comment \\
                    > tshark.txt
                """, in: scratch)
            #expect(outcome.status == 0, "\(outcome.output) \(outcome.errors)")
            let file = try file("ping.pcapng", in: scratch)
            #expect(file.interfaceName == "vif1.0" && file.linkType == 1 && file.dropped == 0)
            #expect(file.received == UInt64(file.packets.count))
            // 5028 bytes of ICMP in packets of 1500: each way four fragments, the request in, the reply out.
            let fragments = file.packets.filter { $0.bytes.count > 34 && $0.bytes[12] == 8 && $0.bytes[23] == 1 }
            #expect(fragments.filter { $0.direction == 2 }.count == 20 && fragments.filter { $0.direction == 1 }.count == 20)
            for packet in fragments {
                let way = packet.direction == 1 ? "transmit" : "receive"
                #expect(packet.comments.first == "\(way), queue 0, okay")
                #expect(packet.comments.count == 2 && packet.comments[1].hasPrefix("slot 0: id "), "\(packet.comments)")
                #expect(packet.comments[1].contains(" \(packet.originalCount) bytes"))
                #expect(packet.bytes.count == packet.originalCount && packet.dropped == 0)
            }
            let seen = scratch.read("tcpdump.txt")
            #expect(
                seen.components(separatedBy: "ICMP echo request").count == 6
                    && seen.components(separatedBy: "ICMP echo reply").count == 6)
            #expect(scratch.read("tshark.txt").contains("slot 0: id"))
            #expect(scratch.read("trace.log") == "causeway: trace: \(file.packets.count) packets\n")
        }

        @Test("a pipe into tcpdump, a count, a snaplen, text, a name and an address")
        func ways() throws {
            let scratch = try Scratch()
            let outcome = try pair(
                """
                ping -q -i 0.05 $A.2 >/dev/null &
                causeway trace 1/0 -w - | tcpdump -n -c 6 -r - > piped.txt
                causeway trace guest1/00:16:3e:01:02:03 --count 7 --snaplen 20 -w short.pcapng
                causeway trace 1/0 --count 3 > text.txt
                causeway trace 1/9 > none.txt 2>&1 && exit 9; [ $? = 1 ]
                causeway trace 1 2>/dev/null && exit 9; [ $? = 2 ]
                causeway trace 1/0 --snaplen -1 2>/dev/null && exit 9; [ $? = 2 ]
                [ $(stat -c %a $CAUSEWAY_RUN_DIR/trace-0.sock) = 600 ]
                """, in: scratch)
            #expect(outcome.status == 0, "\(outcome.output) \(outcome.errors)")
            #expect(scratch.read("piped.txt").split(separator: "\n").count == 6)
            let file = try file("short.pcapng", in: scratch)
            #expect(
                file.packets.count == 7 && file.snaplen == 20
                    && file.packets.allSatisfy { $0.bytes.count == 20 && $0.originalCount > 20 })
            let lines = scratch.read("text.txt").split(separator: "\n")
            #expect(lines.count >= 6 && lines[1].hasPrefix("    slot 0: id "), "\(lines)")
            #expect(scratch.read("none.txt").contains("vif 1/9") || scratch.read("none.txt").contains("vif 9"))
        }

        @Test("a reader that takes nothing: the interface goes on, what is lost is counted, and the trace still ends")
        func slowReader() throws {
            let scratch = try Scratch()
            let outcome = try pair(
                """
                mkfifo pipe
                sleep 1000 < pipe & SLEEPER=$!
                causeway trace 1/0 -w pipe --buffer 256K 2>trace.log & TRACE=$!
                causeway trace 1/0 -w quick.pcapng --buffer 64M 2>/dev/null & QUICK=$!
                begun quick.pcapng
                ping -q -f -c 1500 -s 1400 $A.2 | grep -E ' (1499|1500) received'
                sleep 0.3
                kill -INT $TRACE $QUICK; wait $QUICK
                for i in $(seq 100); do kill -0 $TRACE 2>/dev/null || break; sleep 0.05; done
                kill -0 $TRACE 2>/dev/null && exit 9
                # A slow one that goes on is told what it missed.
                kill $SLEEPER
                mkfifo slow
                (exec < slow; sleep 2; exec cat > slow.pcapng) & READER=$!
                causeway trace 1/0 -w slow --buffer 256K 2>slow.log & TRACE=$!
                sleep 0.5
                ping -q -f -c 1000 -s 1400 $A.2 | grep -E ' (999|1000) received'
                kill -0 $READER; sleep 2.5
                kill -INT $TRACE; wait $TRACE $READER
                """, in: scratch)
            #expect(outcome.status == 0, "\(outcome.output) \(outcome.errors)")
            let quick = try file("quick.pcapng", in: scratch)
            #expect(quick.dropped == 0 && quick.packets.count >= 3000)
            #expect(scratch.read("trace.log").contains("nobody reads"))
            let slow = try file("slow.pcapng", in: scratch)
            let lost = try #require(slow.dropped)
            #expect(lost > 100 && UInt64(slow.packets.count) + lost >= 2000 && slow.received == UInt64(slow.packets.count) + lost)
            #expect(scratch.read("slow.log").contains("\(lost) lost"))
        }

        @Test("a trace ends with its interface, and with its backend")
        func ends() throws {
            let scratch = try Scratch()
            let outcome = try pair(
                """
                causeway trace 1/0 -w first.pcapng 2>first.log & TRACE=$!
                begun first.pcapng
                ping -q -c 2 -i 0.05 $A.2 >/dev/null
                for pid in $(cat /proc/$PPID/task/*/children); do
                  [ "$(tr '\\0' '\\n' < /proc/$pid/cmdline 2>/dev/null | sed -n 2p)" = backend ] && kill -9 $pid; done
                wait $TRACE
                # What is sent while there is no backend is lost.
                for i in $(seq 50); do ping -q -c 1 -W 1 $A.2 >/dev/null && break; done
                causeway trace 1/0 -w second.pcapng -q 2>second.log & TRACE=$!
                begun second.pcapng
                causeway network-detach 1 0 --force
                wait $TRACE
                """, in: scratch)
            #expect(outcome.status == 0, "\(outcome.output) \(outcome.errors)")
            #expect(try file("first.pcapng", in: scratch).packets.count >= 4)
            #expect(scratch.read("first.log").contains("the interface is gone"))
            #expect(try file("second.pcapng", in: scratch).received != nil)
            #expect(scratch.read("second.log").isEmpty, "-q: \(scratch.read("second.log"))")
        }
    }

    /// Two frontends with a cable between them.
    @Suite("Interfaces back to back (as root)", .enabled(if: getuid() == 0 && access("/dev/net/tun", F_OK) == 0))
    struct BackToBack {
        private func cable(_ script: String, options: [String] = [], spec: String = "", in scratch: Scratch) throws -> Outcome {
            let file = try scratch.makeFile("script.sh")
            let preamble = """
                set -e; cd '\(scratch.path)'; export PATH="\(Tools.buildDirectory):$PATH"
                A=10.$((\(getpid()) / 250 % 250 + 1)).$((\(getpid()) % 250 + 1))
                here() { ip netns exec $CAUSEWAY_NETNS_0 "$@"; }
                there() { ip netns exec $CAUSEWAY_NETNS_1 "$@"; }
                here ip addr add $A.1/24 dev $CAUSEWAY_TAP_FRONT_0; there ip addr add $A.2/24 dev $CAUSEWAY_TAP_FRONT_1
                here ip -6 addr add fd09::1/64 dev $CAUSEWAY_TAP_FRONT_0 nodad; there ip -6 addr add fd09::2/64 dev $CAUSEWAY_TAP_FRONT_1 nodad
                trap 'kill $(jobs -p) 2>/dev/null || true' EXIT
                [ -z "$CAUSEWAY_TAP_BACK_0" ]
                here ping -q -c 1 -W 5 $A.2 >/dev/null

                """
            try file.write(contentsOf: Foundation.Data((preamble + script).utf8))
            return try RunningProcess.run(
                [Tools.causeway, "pair", "--vif", "mac=00:16:3e:01:02:03,peer=00:16:3e:01:02:04" + spec] + options
                    + ["--", "bash", "\(scratch.path)/script.sh"], in: scratch, seconds: 120)
        }

        /// Namespaces of this pair's that are still there; others may run pairs of their own.
        private static func leftovers(_ outcome: Outcome) -> [String] {
            let words = outcome.output.split { $0 == " " || $0 == "," || $0 == "\n" }.filter { $0.hasPrefix("causeway-") }
            #expect(words.count >= 2)
            return words.map(String.init).filter { FileManager.default.fileExists(atPath: "/run/netns/\($0)") }
        }

        @Test(
            "ping of every size and iperf3 both ways, whatever is off",
            arguments: [
                [], ["--no-gso4", "--no-gso6"], ["--no-csum4", "--no-csum6", "--no-gso4", "--no-gso6"], ["--no-grant-mapping"],
            ])
        func traffic(_ options: [String]) throws {
            let scratch = try Scratch()
            let outcome = try cable(
                """
                # One each: behind an answered one, ping gives the last no more than two round trips, which a busy machine may exceed.
                for size in 0 1472 1473 4054 8000 65507; do here ping -q -c 1 -W 5 -s $size $A.2 | grep ' 0% packet loss'; done
                here ping -q -i 0.002 -c 300 fd09::2 | grep -E ' (299|300) received'
                for way in "$A.2" "$A.2 -R" "fd09::2"; do
                  # Emptied first: what the last server said must not be taken for this one's word.
                  : > server.txt; there iperf3 -s -1 > server.txt & SERVER=$!
                  for i in $(seq 100); do grep -q listening server.txt && break; sleep 0.05; done
                  here iperf3 -c $way -n 20M > client.txt; wait $SERVER; grep -q receiver client.txt
                done
                """, options: options, spec: options.isEmpty ? ",mtu=9000" : "", in: scratch)
            #expect(outcome.status == 0, "\(outcome.output) \(outcome.errors)")
            #expect(Self.leftovers(outcome) == [])
        }

        @Test("kill -9 of one frontend: the other loses its carrier and nothing else, and has it again with the next")
        func frontendKilled() throws {
            let scratch = try Scratch()
            let outcome = try cable(
                """
                role() { for pid in $(cat /proc/$PPID/task/*/children); do
                  [ "$(tr '\\0' '\\n' < /proc/$pid/cmdline 2>/dev/null | sed -n 2,4p | tr '\\n' ' ')" = "$1 " ] && echo $pid; done; true; }
                [ "$(here ip -o link show dev $CAUSEWAY_TAP_FRONT_0 | grep -c LOWER_UP)" = 1 ]
                OTHER=$(role 'frontend vif 0') DEAD=$(role 'frontend vif 1')
                kill -9 $DEAD
                for i in $(seq 200); do NEXT=$(role 'frontend vif 1'); [ -n "$NEXT" ] && [ "$NEXT" != "$DEAD" ] && break; sleep 0.05; done
                [ "$NEXT" != "$DEAD" ]
                for i in $(seq 20); do here ping -q -c 1 -W 1 $A.2 && break; done
                here ping -q -c 1 -W 5 $A.2
                [ "$(role 'frontend vif 0')" = "$OTHER" ]
                causeway status --json > status.json
                """, in: scratch)
            #expect(outcome.status == 0, "\(outcome.output) \(outcome.errors)")
            #expect(Self.leftovers(outcome) == [])
            let status = scratch.read("status.json")
            // The backend's and both guests': what the dead process held is neither dying nor deferred.
            let parsed = try JSONSerialization.jsonObject(with: Foundation.Data(status.utf8)) as? [String: Any]
            let usage = try #require(parsed?["usage"] as? [[String: Any]], "\(status)")
            let host = try #require(usage.first { $0["domain"] as? String == "host" }, "\(status)")
            #expect(host["domains"] as? Int == 3 && host["dying"] as? Int == 0 && host["deferred"] as? Int == 0, "\(host)")
            #expect(outcome.errors.contains("carrier off"))
        }

        @Test("what makes no sense is refused, in words") func usage() throws {
            let scratch = try Scratch()
            for (spec, word) in [
                ("peer=1/0", "peer"), ("peer=x", "neither an Ethernet address nor"), ("peer=01:00:5e:00:00:01", "group"),
                ("peer=00:16:3e:01:02:04,bridge=br0", "nothing on the backend's side"),
            ] {
                let outcome = try RunningProcess.run([Tools.causeway, "pair", "--vif", spec, "--", "true"], in: scratch)
                #expect(outcome.status == 2 && outcome.errors.contains(word), "\(spec): \(outcome.status) \(outcome.errors)")
            }
        }
    }
}
