// Interfaces over vhost-user: QEMU with Debian's own virtio driver, DPDK's, and the command's own words.

import Foundation
import TestSupport
import Testing

extension EndToEnd {
    @Suite("vhost-user networks") struct ExportNetworkTests {
        /// The number before these words in what `export` says when a front end is gone.
        private func number(before words: String, in text: String) -> Int? {
            guard let end = text.range(of: " \(words)")?.lowerBound else { return nil }
            return Int(text[..<end].reversed().prefix { $0.isNumber }.reversed().map(String.init).joined())
        }

        private func write(_ text: String, to name: String, in scratch: Scratch) throws {
            try scratch.makeFile(name).write(contentsOf: Foundation.Data(text.utf8))
        }

        @Test(
            "a QEMU guest pings, and moves files both ways in segments that a tap's kernel cuts",
            .enabled(if: Tools.isRoot && access("/dev/net/tun", F_OK) == 0))
        func guestInterface() throws {
            let scratch = try Scratch()
            try write(
                """
                ip link set eth0 up; ip addr add 10.0.0.1/24 dev eth0
                ping -c 3 -i 0.3 10.0.0.2 | grep received
                mkfifo /f; exec 3<>/f
                nc 10.0.0.2 5000 <&3 | md5sum | sed 's/^/down /'
                dd if=/dev/urandom of=/t bs=1M count=8 2>/dev/null
                nc 10.0.0.2 5001 </t
                md5sum </t | sed 's/^/up /'
                echo mtu $(cat /sys/class/net/eth0/mtu) $(cat /sys/class/net/eth0/address)
                """, to: "script", in: scratch)
            // One that listens ends when its input does: a pipe that nobody closes has no end.
            try write(
                """
                ip link set lo up; ip addr add 10.0.0.2/24 dev $CAUSEWAY_TAP_BACK_0
                cd \(scratch.path); mkfifo f; exec 3<>f
                head -c 8388608 /dev/urandom >data; md5sum <data | sed 's/^/gave /'
                busybox nc -l -p 5000 <data >/dev/null &
                busybox nc -l -p 5001 <&3 | md5sum | sed 's/^/got /' &
                \(try VirtioGuest.command(in: scratch.path))
                wait
                """, to: "host", in: scratch)
            // The tap lies in a namespace that ends with these processes.
            let outcome = try RunningProcess.run(
                [
                    "unshare", "-n", Tools.causeway, "export", "--vif", "vifname=t0,mac=52:54:00:12:34:56,mtu=1280", "--", "sh",
                    "\(scratch.path)/host",
                ], in: scratch, seconds: 150)
            func word(_ name: String) -> String? {
                outcome.output.components(separatedBy: .newlines).first { $0.hasPrefix("\(name) ") }.map {
                    String($0.dropFirst(name.count + 1))
                }
            }
            #expect(outcome.status == 0, "\(outcome)")
            #expect(outcome.output.contains("3 packets received"), "\(outcome)")
            #expect(word("down") != nil && word("down") == word("gave"), "\(outcome)")
            #expect(word("up") != nil && word("up") == word("got"), "\(outcome)")
            #expect(word("mtu") == "1280 52:54:00:12:34:56", "\(outcome)")
            // Fewer than it takes without segments, though acknowledgements count, too; and nothing was lost on the
            // way.
            for side in ["frames sent", "received"] {
                let frames = try #require(number(before: side, in: outcome.errors), "\(outcome)")
                #expect(frames > 0 && 8_388_608 / frames > 1294, "\(side): \(outcome.errors)")
            }
            #expect(!outcome.errors.contains("dropped"), "\(outcome.errors)")
        }

        @Test(
            "a guest whose interface is behind an IOMMU pings and moves a file",
            .enabled(if: Tools.isRoot && access("/dev/net/tun", F_OK) == 0), arguments: ExportTests.TakingBack.allCases)
        func behindIommu(_ taking: ExportTests.TakingBack) throws {
            let scratch = try Scratch()
            try write(
                """
                echo platform $(cut -c34 /sys/bus/virtio/devices/virtio0/features)
                ip link set eth0 up; ip addr add 10.0.0.1/24 dev eth0
                ping -c 3 -i 0.3 10.0.0.2 | grep received
                dd if=/dev/urandom of=/t bs=1M count=2 2>/dev/null
                nc 10.0.0.2 5001 </t
                md5sum </t | sed 's/^/up /'
                """, to: "script", in: scratch)
            try write(
                """
                ip link set lo up; ip addr add 10.0.0.2/24 dev $CAUSEWAY_TAP_BACK_0
                cd \(scratch.path); mkfifo f; exec 3<>f
                busybox nc -l -p 5001 <&3 | md5sum | sed 's/^/got /' &
                \(try VirtioGuest.command(in: scratch.path)),iommu_platform=on,ats=on,disable-legacy=on\(taking.bus)
                wait
                """, to: "host", in: scratch)
            let outcome = try RunningProcess.run(
                [
                    "env", "GUEST_IOMMU=\(taking)", "unshare", "-n", Tools.causeway, "export", "--vif", "vifname=t0", "--", "sh",
                    "\(scratch.path)/host",
                ], in: scratch, seconds: 150)
            func word(_ name: String) -> String? {
                outcome.output.components(separatedBy: .newlines).first { $0.hasPrefix("\(name) ") }.map {
                    String($0.dropFirst(name.count + 1))
                }
            }
            #expect(word("platform")?.hasPrefix("1") == true, "\(outcome)")
            #expect(outcome.output.contains("3 packets received"), "\(outcome)")
            #expect(word("up") != nil && word("up") == word("got"), "\(outcome)")
        }

        @Test(
            "what DPDK's driver sends is what arrives: split and packed rings, one queue and two",
            arguments: [(1, 0), (1, 1), (2, 0), (2, 1)])
        func testpmd(queues: Int, packed: Int) throws {
            let scratch = try Scratch()
            // It is told to stop once it has sent some; what is still in its rings then is taken in far less than two
            // seconds.
            try write(
                """
                cd \(scratch.path); mkfifo in; exec 3<>in
                stdbuf -oL dpdk-testpmd --no-huge -m 256 --no-shconf --no-telemetry --no-pci --lcores '0@1,1@1' --file-prefix=causeway$$ \\
                    --vdev "net_virtio_user0,path=$CAUSEWAY_VHOST_0,queues=\(queues),queue_size=256,packed_vq=\(packed)" -- \\
                    --total-num-mbufs=4096 --forward-mode=txonly --rxq=\(queues) --txq=\(queues) -i <in >log 2>&1 &
                pid=$!
                until grep -q 'testpmd>' log; do kill -0 $pid || exit 1; sleep 0.1; done
                echo start >&3
                for turn in $(seq 300); do
                    echo 'show port stats 0' >&3; sleep 0.2
                    sent=$(grep -o 'TX-packets: [0-9]*' log | tail -1 | cut -d' ' -f2); [ "${sent:-0}" -gt 2000 ] && break
                done
                echo stop >&3; sleep 2; echo quit >&3; wait $pid || exit 1
                rm -rf /var/run/dpdk/causeway$$
                echo "sent $(grep -o 'TX-packets: [0-9]*' log | tail -1 | cut -d' ' -f2)"
                """, to: "host", in: scratch)
            let outcome = try RunningProcess.run(
                [
                    Tools.causeway, "export", "--trust-memory", "--vif", "null", "--queues", "\(queues)", "--", "sh",
                    "\(scratch.path)/host",
                ], in: scratch, seconds: 120)
            #expect(outcome.status == 0, "\(outcome)")
            let sent = try #require(outcome.output.split(whereSeparator: \.isNewline).last, "\(outcome)")
            let counted = try #require(number(before: "frames sent", in: outcome.errors), "\(outcome)")
            #expect(sent == "sent \(counted)" && counted > 2000, "\(outcome)")
        }

        /// What DPDK's driver does behind a socket that it listens at itself.
        private func listeningTestpmd(_ mode: String, _ script: String, vif: String, in scratch: Scratch) throws -> Outcome {
            try write(
                """
                cd \(scratch.path); mkfifo in; exec 3<>in
                stdbuf -oL dpdk-testpmd --no-huge -m 256 --no-shconf --no-telemetry --no-pci --lcores '0@1,1@1' --file-prefix=causeway$$ \\
                    --vdev "net_virtio_user0,path=$CAUSEWAY_VHOST_0,queues=1,queue_size=256,server=1" -- \\
                    --total-num-mbufs=4096 --forward-mode=\(mode) -i <in >log 2>&1 &
                pid=$!
                until grep -q 'testpmd>' log; do kill -0 $pid || exit 1; sleep 0.1; done
                count() { echo 'show port stats 0' >&3; sleep 0.2; grep -o "$1-packets: [0-9]*" log | tail -1 | cut -d' ' -f2; }
                echo start >&3
                # Commands are done one after another: from here on it counts.
                until [ -n "$(count \(mode == "rxonly" ? "RX" : "TX"))" ]; do kill -0 $pid || exit 1; done
                \(script)
                echo stop >&3; sleep 2; echo quit >&3; wait $pid || exit 1
                rm -rf /var/run/dpdk/causeway$$
                for way in TX RX; do echo "$way $(grep -o "$way-packets: [0-9]*" log | tail -1 | cut -d' ' -f2)"; done
                """, to: "host", in: scratch)
            return try RunningProcess.run(
                // What IPv6 says of itself when a tap is made would come before testpmd counts.
                [
                    "unshare", "-n", "sh", "-c",
                    "for one in all default; do echo 1 >/proc/sys/net/ipv6/conf/$one/disable_ipv6; done; exec \"$@\"", "sh",
                    Tools.causeway, "export", "--client", "--trust-memory", "--vif", vif, "--", "bash", "\(scratch.path)/host",
                ], in: scratch, seconds: 120)
        }

        @Test("a DPDK driver that listens is gone to, and what it sends is what arrives", .enabled(if: Tools.isRoot))
        func listeningSender() throws {
            let scratch = try Scratch()
            let outcome = try listeningTestpmd(
                "txonly", "for turn in $(seq 300); do sent=$(count TX); [ \"${sent:-0}\" -gt 2000 ] && break; done", vif: "null",
                in: scratch)
            #expect(outcome.status == 0, "\(outcome)")
            let counted = try #require(number(before: "frames sent", in: outcome.errors), "\(outcome)")
            #expect(outcome.output.contains("TX \(counted)\n") && counted > 2000, "\(outcome)")
            #expect(outcome.errors.contains("is looked for again") && outcome.errors.contains("met a front end"), "\(outcome)")
        }

        @Test(
            "what a tap's host sends is what DPDK's driver receives",
            .enabled(if: Tools.isRoot && access("/dev/net/tun", F_OK) == 0))
        func listeningReceiver() throws {
            let scratch = try Scratch()
            // None that is too early: an interface that has no driver yet drops them.
            let outcome = try listeningTestpmd(
                "rxonly",
                """
                ip addr add 10.0.0.2/24 dev $CAUSEWAY_TAP_BACK_0; ip link set $CAUSEWAY_TAP_BACK_0 up
                ip neigh add 10.0.0.9 lladdr 52:54:00:00:00:09 dev $CAUSEWAY_TAP_BACK_0
                until ip -br link show dev $CAUSEWAY_TAP_BACK_0 | grep -q LOWER_UP; do sleep 0.1; done
                for i in $(seq 500); do echo frame $i >/dev/udp/10.0.0.9/9; done
                for turn in $(seq 100); do received=$(count RX); [ "${received:-0}" -ge 500 ] && break; done
                ip link set $CAUSEWAY_TAP_BACK_0 down; sleep 1
                """, vif: "vifname=t0", in: scratch)
            #expect(outcome.status == 0, "\(outcome)")
            #expect(outcome.output.contains("RX 500\n"), "\(outcome)")
            #expect(number(before: "received", in: outcome.errors) == 500, "\(outcome)")
        }

        @Test("COMMAND sees each interface's socket, and QEMU's arguments for it")
        func arguments() throws {
            let scratch = try Scratch()
            let outcome = try RunningProcess.run(
                [
                    Tools.causeway, "export", "-q", "--disk", "null:1M,,xvda", "--vif", "null,mac=52:54:00:00:00:01,mtu=9000",
                    "--vif",
                    "mac=52:54:00:00:00:02,peer=52:54:00:00:00:03", "--queues", "2", "--", "sh", "-c",
                    #"for n in 0 1 2; do eval "[ -S \$CAUSEWAY_VHOST_$n ]" && echo socket; done; printf '%s\n' $qemu"#,
                ], in: scratch)
            #expect(outcome.status == 0 && outcome.errors == "", "\(outcome)")
            let words = outcome.output.split(separator: "\n").map(String.init)
            #expect(words.prefix(3) == ["socket", "socket", "socket"])
            let cards = words.filter { $0.hasPrefix("virtio-net-pci") }
            #expect(
                cards == [
                    "virtio-net-pci,netdev=causewaynet0,mac=52:54:00:00:00:01,mq=on,host_mtu=9000,vectors=0,romfile=",
                    "virtio-net-pci,netdev=causewaynet1,mac=52:54:00:00:00:02,vectors=0,romfile=",
                    "virtio-net-pci,netdev=causewaynet2,mac=52:54:00:00:00:03,vectors=0,romfile=",
                ])
            let networks = words.filter { $0.hasPrefix("vhost-user,") }
            #expect(networks.first == "vhost-user,id=causewaynet0,chardev=causewayvif0,queues=2")
            #expect(networks.last == "vhost-user,id=causewaynet2,chardev=causewayvif2")
            #expect(words.contains("vhost-user-blk-pci,chardev=causeway0"))
        }

        /// The guest's script, and its host's, for a stream each way for as long as the file "stop" is not there. Both
        /// ends say what it was.
        private func writeStreams(in scratch: Scratch) throws {
            try write(
                """
                ip link set eth0 up; ip addr add 10.0.0.1/24 dev eth0
                ping -c 2 -i 0.3 10.0.0.2 | grep received
                dd if=/dev/urandom of=/t bs=1M count=1 2>/dev/null
                mkfifo /f /s; exec 3<>/f
                (nc 10.0.0.2 5000 <&3 | md5sum | sed 's/^/down /'; : >/stop) &
                md5sum </s | sed 's/^/up /' &
                echo begun
                (while [ ! -e /stop ]; do cat /t; sleep 0.05; done) | tee /s | nc 10.0.0.2 5001
                wait %2
                ping -c 2 -i 0.3 10.0.0.2 | grep received
                dmesg | grep -c 'is not a head' | sed 's/^/errors /'
                """, to: "script", in: scratch)
            try write(
                """
                ip link set lo up; ip addr add 10.0.0.2/24 dev $CAUSEWAY_TAP_BACK_0
                cd \(scratch.path); mkfifo f s; exec 3<>f
                head -c 1048576 /dev/urandom >data
                md5sum <s | sed 's/^/gave /' &
                ((until [ -e stop ]; do cat data; sleep 0.05; done) | tee s | busybox nc -l -p 5000 >/dev/null) &
                busybox nc -l -p 5001 <&3 | md5sum | sed 's/^/got /' &
                (until [ -e begun ]; do sleep 0.1; done; ip monitor link dev $CAUSEWAY_TAP_BACK_0 >changes & monitor=$!
                until [ -e stop ]; do sleep 0.05; done; kill $monitor) &
                \(try VirtioGuest.command(in: scratch.path))
                wait
                """, to: "host", in: scratch)
        }

        /// What goes on under a guest's transfers.
        enum Interruption: String, CaseIterable {
            case upgrade
            case kill
        }

        @Test(
            "a QEMU guest's transfers through a tap go on, both ways, while the process that serves changes ten times",
            .enabled(if: Tools.isRoot && access("/dev/net/tun", F_OK) == 0), arguments: Interruption.allCases)
        func changed(by interruption: Interruption) throws {
            let scratch = try Scratch()
            try writeStreams(in: scratch)
            let sockets = "\(scratch.path)/sockets"
            let kept = interruption == .kill ? ["--keep"] : []
            // The tap lies in a namespace that ends with these processes.
            let running = try RunningProcess(
                ["unshare", "-n", Tools.causeway, "export"] + kept
                    + [
                        "--vif", "vifname=t0,mac=52:54:00:12:34:56", "--queues", interruption == .kill ? "2" : "1", "--socket-dir",
                        sockets, "--", "sh", "\(scratch.path)/host",
                    ], in: scratch)
            #expect(eventually(60_000) { running.output.contains("begun") || !running.isRunning })
            _ = try scratch.makeFile("begun")
            sleepMilliseconds(500)
            var pauses: [Double] = []
            for _ in 0..<10 {
                sleepMilliseconds(150)
                if interruption == .kill {
                    try KeptExport(keeper: running).kill()
                    continue
                }
                let upgrade = try RunningProcess.run(
                    [Tools.causeway, "upgrade", "--socket-dir", sockets], in: scratch, seconds: 30)
                #expect(upgrade.status == 0, "\(upgrade)")
                pauses.append(
                    try #require(upgrade.output.split(separator: " ").dropLast().last.flatMap { Double($0) }, "\(upgrade)"))
            }
            if interruption == .kill { pauses = KeptExport(keeper: running).pauses }
            #expect(KeptExport(keeper: running).connections == 1, "\(running.errors)")
            _ = try scratch.makeFile("stop")
            let outcome = try #require(running.wait(seconds: 60), "\(running.output)\n\(running.errors)")
            func word(_ name: String) -> String? {
                outcome.output.components(separatedBy: .newlines).first { $0.hasPrefix("\(name) ") }.map {
                    String($0.dropFirst(name.count + 1).trimmingCharacters(in: .whitespaces))
                }
            }
            print(
                "ten times another process (\(interruption)) under a guest's transfers: longest pause \(pauses.max() ?? 0) ms, all \(pauses)"
            )
            #expect(outcome.status == 0 && pauses.count == 10, "\(outcome)")
            #expect(word("down") != nil && word("down") == word("gave"), "\(outcome)")
            #expect(word("up") != nil && word("up") == word("got"), "\(outcome)")
            #expect(word("errors") == "0", "\(outcome)")
            #expect(outcome.output.components(separatedBy: "2 packets received").count == 3, "\(outcome)")
            // Who looks at the tap has seen no change.
            let changes = scratch.read("changes")
            #expect(!changes.contains("NO-CARRIER"), "\(changes)")
        }

        @Test("a cable's two ends go on with each other in another program, and so does what has nothing behind it")
        func upgradedCable() throws {
            let scratch = try Scratch()
            let outcome = try RunningProcess.run(
                [
                    Tools.causeway, "export", "--vif", "null", "--vif", "mac=52:54:00:00:00:02,peer=52:54:00:00:00:03", "--", "sh",
                    "-c",
                    "\(Tools.causeway) upgrade && \(Tools.causeway) upgrade; echo status $?; ls $(dirname $CAUSEWAY_EXPORT) | grep -v ^device-",
                ], in: scratch, seconds: 30)
            #expect(
                outcome.status == 0
                    && outcome.output.contains("status 0\nexport.sock\npair.lock\nvif0.sock\nvif1.sock\nvif2.sock\n"), "\(outcome)")
        }

        @Test("what an interface cannot be is said in one line, and leaves nothing")
        func mistakes() throws {
            let scratch = try Scratch()
            let cases: [([String], Int32, String)] = [
                (["--vif", "nul"], 2, "nul"), (["--vif", "null,vifname=t0"], 2, "--vif: null: vifname"),
                (["--vif", "null,peer=52:54:00:00:00:02"], 2, "--vif: null: peer"),
                (["--vif", "rate=1MB/s"], 2, "--vif: rate"), (["--vif", "script=/bin/true"], 2, "--vif: script"),
                (["--vif", "backend=1"], 2, "--vif: backend"), (["--vif", "peer=1/0"], 2, "--vif: peer"),
                (["--vif", "null", "--vif", "null", "--socket", "\(scratch.path)/s"], 2, "--socket"),
                (["--vif", "mac=52:54:00:00:00:01,peer=52:54:00:00:00:02", "--socket", "\(scratch.path)/s"], 2, "--socket"),
                (["--vif", "vifname=t0", "--vif", "vifname=t0"], 2, "t0: given twice"),
                (["--vif", "null", "--socket", "/nowhere/s.sock"], 1, "/nowhere/s.sock"),
                (["--vif", "vifname=lo"], 1, "lo"), (["--vif", "bridge=nobridge0"], 1, "nobridge0"),
            ]
            for (arguments, status, words) in cases {
                let outcome = try RunningProcess.run(
                    [Tools.causeway, "export"] + arguments + ["--", "true"], in: scratch, seconds: 20)
                #expect(outcome.status == status, "\(arguments): \(outcome)")
                #expect(outcome.errors.contains(words), "\(arguments): \(outcome)")
                let lines = outcome.errors.split(separator: "\n").filter { $0.hasPrefix("causeway:") || $0.hasPrefix("Error:") }
                #expect(lines.count == 1, "\(arguments): \(outcome)")
            }
        }
    }
}
