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
            trap 'kill $(jobs -p) 2>/dev/null || true' EXIT
            # The pair's processes of a role: its children whose second word says so. By that word alone: a script's own text may be in a
            # command line, too.
            role() { for pid in $(cat /proc/$PPID/task/*/children); do
              [ "$(tr '\\0' '\\n' < /proc/$pid/cmdline 2>/dev/null | sed -n 2p)" = "$1" ] && echo $pid; done; true; }
            ping -q -c 1 -W 5 $A.2 >/dev/null

            """

        /// 8 MiB over TCP with their checksum, to the other side and back again.
        static let transfer = """
            cat > transfer.py <<'END'
            import socket, sys, hashlib, os, threading
            def take(c):
                parts = []
                while True:
                    d = c.recv(1 << 20)
                    if not d: return b''.join(parts)
                    parts.append(d)
            if sys.argv[1] == 'serve':
                s = socket.create_server((sys.argv[2], 5555)); open('ready', 'w').close()
                c, _ = s.accept(); d = take(c); c.sendall(d); c.close()
            else:
                d = os.urandom(8 << 20); c = socket.create_connection((sys.argv[2], 5555), 10)
                c.settimeout(50)
                threading.Thread(target=lambda: (c.sendall(d), c.shutdown(socket.SHUT_WR))).start()
                sys.exit(0 if hashlib.sha256(take(c)).digest() == hashlib.sha256(d).digest() else 3)
            END
            rm -f ready; on python3 transfer.py serve $A.2 & SERVER=$!
            while [ ! -e ready ]; do sleep 0.05; done

            """

        private func pair(_ script: String, options: [String] = [], seconds: Double = 90) throws -> Outcome {
            let scratch = try Scratch()
            let file = try scratch.makeFile("script.sh")
            try file.write(contentsOf: Foundation.Data(("set -e; cd '\(scratch.path)'\n" + Self.addresses + script).utf8))
            let outcome = try RunningProcess.run(
                [Tools.causeway, "pair", "--vif", "mac=00:16:3e:01:02:03"] + options + ["--", "bash", "\(scratch.path)/script.sh"],
                in: scratch, seconds: seconds)
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

        @Test(
            "a checksummed transfer, with each feature off in turn",
            arguments: [[], ["--no-sg"], ["--no-gso4"], ["--no-csum4"], ["--no-csum6"], ["--no-grant-mapping"], ["--no-control-ring", "--no-split"], ["--vif-queues", "2"]])
        func transfers(_ options: [String]) throws {
            let outcome = try pair(Self.transfer + "python3 transfer.py ask $A.2; wait $SERVER", options: options)
            #expect(outcome.status == 0, "\(outcome.output) \(outcome.errors)")
        }

        @Test("kill -9 of the backend under a transfer: it goes on, with the same bytes")
        func backendKilled() throws {
            let outcome = try pair(
                Self.transfer + """
                (sleep 0.1; kill -9 $(role backend)) &
                python3 transfer.py ask $A.2; wait $SERVER
                ping -q -c 1 -W 5 $A.2 | grep ' 0% packet loss'
                """)
            #expect(outcome.status == 0, "\(outcome.output) \(outcome.errors)")
            #expect(outcome.errors.contains("backend was killed by signal 9"))
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
