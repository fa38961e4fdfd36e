// Programs of the field in a QEMU guest, while what serves its devices becomes another program ten times.

import Foundation
import TestSupport
import Testing

extension EndToEnd {
    @Suite("a guest's programs while its devices change hands") struct GuestProgramTests {
        private let scratch: Scratch
        private var sockets: String { "\(scratch.path)/sockets" }

        init() throws { scratch = try Scratch() }

        private func write(_ text: String, to name: String) throws {
            try scratch.makeFile(name).write(contentsOf: Foundation.Data(text.utf8))
        }

        /// Exports a device to a guest that runs the file `script`, and has fio and iperf3.
        /// - Parameter around: what runs the export.
        private func export(_ device: [String], _ command: String, around: [String] = []) throws -> RunningProcess {
            try RunningProcess(
                around + [Tools.causeway, "export"] + device + ["--socket-dir", sockets, "--", "sh", "-c", command],
                environment: ["GUEST_TOOLS": "1"], in: scratch)
        }

        /// Ten successions in a row; how long the front end was kept waiting, each time, in milliseconds.
        private func upgradeTenTimes() throws -> [Double] {
            try (0..<10).map { _ in
                sleepMilliseconds(200)
                let upgrade = try RunningProcess.run(
                    [Tools.causeway, "upgrade", "--socket-dir", sockets], in: scratch, seconds: 30)
                #expect(upgrade.status == 0, "\(upgrade)")
                return try #require(upgrade.output.split(separator: " ").dropLast().last.flatMap { Double($0) }, "\(upgrade)")
            }
        }

        @Test("fio finds what it wrote")
        func fio() throws {
            let image = try scratch.makeImage(megabytes: 64)
            try write(
                """
                echo begun
                while [ $(cat /sys/block/vda/size) = 131072 ]; do
                    fio --name=verify --filename=/dev/vda --size=24M --rw=randwrite --bsrange=512-64k --ioengine=libaio --iodepth=16 \\
                        --direct=1 --verify=crc32c --verify_backlog=128 --verify_fatal=1 --verify_state_save=0 --randrepeat=0 --output=/o \\
                        && echo verified || { echo failed; cat /o; }
                done
                dmesg | grep -c 'is not a head\\|I/O error' | sed 's/^/errors /'
                """, to: "script")
            let running = try export(
                ["--disk", "\(image),raw,xvda,w", "--queues", "2"], try VirtioGuest.command(in: scratch.path))
            #expect(eventually(60_000) { running.output.contains("begun") || !running.isRunning })
            // fio itself takes a while to be loaded.
            sleepMilliseconds(3000)
            let pauses = try upgradeTenTimes()
            // The disk grows, which ends the guest's work.
            try FileHandle(forWritingTo: URL(fileURLWithPath: image)).truncate(atOffset: 65 << 20)
            let outcome = try #require(running.wait(seconds: 90), "\(running.output)\n\(running.errors)")
            print("ten upgrades under fio's verify in a guest: longest pause \(pauses.max() ?? 0) ms, all \(pauses)")
            #expect(outcome.output.contains("verified") && !outcome.output.contains("failed"), "\(outcome)")
            #expect(outcome.output.contains("errors 0"), "\(outcome)")
            #expect(outcome.errors.components(separatedBy: "a front end connected").count == 2, "\(outcome)")
        }

        @Test("iperf3 goes on both ways", .enabled(if: Tools.isRoot && access("/dev/net/tun", F_OK) == 0))
        func iperf3() throws {
            try write(
                """
                ip link set eth0 up; ip addr add 10.0.0.1/24 dev eth0
                ping -c 2 -i 0.3 10.0.0.2 | grep received
                (until iperf3 -c 10.0.0.2 -t 1 >/o 2>&1; do sleep 0.2; done)
                echo begun
                iperf3 -c 10.0.0.2 -t 18 --bidir >/o 2>&1 && echo ended || echo failed
                grep 'receiver' /o
                ping -c 2 -i 0.3 10.0.0.2 | grep received
                dmesg | grep -c 'is not a head' | sed 's/^/errors /'
                """, to: "script")
            try write(
                """
                ip link set lo up; ip addr add 10.0.0.2/24 dev $CAUSEWAY_TAP_BACK_0
                iperf3 -s --forceflush >\(scratch.path)/served & server=$!
                \(try VirtioGuest.command(in: scratch.path))
                kill $server
                """, to: "host")
            // The tap lies in a namespace that ends with these processes.
            let running = try export(
                ["--vif", "vifname=t0,mac=52:54:00:12:34:56"], "sh \(scratch.path)/host", around: ["unshare", "-n"])
            #expect(eventually(60_000) { running.output.contains("begun") || !running.isRunning })
            sleepMilliseconds(1000)
            let pauses = try upgradeTenTimes()
            // All of them happened while it sent and received.
            #expect(!running.output.contains("ended") && !running.output.contains("failed"), "\(running.output)")
            let outcome = try #require(running.wait(seconds: 90), "\(running.output)\n\(running.errors)")
            let streams = outcome.output.split(whereSeparator: \.isNewline).filter { $0.contains("receiver") }
            print("ten upgrades under iperf3 in a guest: longest pause \(pauses.max() ?? 0) ms, all \(pauses)")
            print(streams.joined(separator: "\n"))
            #expect(outcome.output.contains("ended") && streams.count == 2, "\(outcome)\n\(scratch.read("served"))")
            #expect(streams.allSatisfy { !$0.contains(" 0.00 Bytes") }, "\(streams)")
            #expect(outcome.output.contains("errors 0"), "\(outcome)")
            #expect(outcome.output.components(separatedBy: "2 packets received").count == 3, "\(outcome)")
            #expect(outcome.errors.components(separatedBy: "a front end connected").count == 2, "\(outcome)")
        }
    }
}
