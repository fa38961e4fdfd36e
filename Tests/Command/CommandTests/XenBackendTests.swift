// Our backend's way through Xen's libraries, which stands on the loopback host here and on Xen in a driver domain.

import Foundation
import TestSupport
import Testing

extension EndToEnd {
    @Suite("Our backend through Xen's libraries") struct XenBackend {
        private let scratch: Scratch
        /// In the place of the pair's own.
        private static let backend = [
            "--backend-command",
            "\(Tools.causeway) backend --xen --scripts ignore --no-journal --run-dir \"$CAUSEWAY_RUN_DIR\"",
        ]

        init() throws { scratch = try Scratch() }

        @Test("acceptance 9: fio verifies 64 MiB of mixed sizes") func verify() throws {
            let image = try scratch.makeImage(megabytes: 64)
            let outcome = try pair(
                ["\(image),raw,xvda,w"], options: Self.backend, command: verifyJob(megabytes: 64), in: scratch, seconds: 200)
            #expect(outcome.status == 0, "\(outcome.errors.suffix(2000))")
            // It says what it stands on; nothing else of that line can be known here.
            #expect(outcome.errors.contains("/xenstored.sock, vm.max_map_count"), "\(outcome.errors)")
        }

        @Test(
            "acceptance 9: each feature off, and each ABI",
            arguments: [
                ["--no-persistent"], ["--segments", "11"], ["--segments", "32"], ["--ring-page-order", "3"], ["--queues", "4"],
                ["--abi", "x86_32"], ["--no-flush", "--no-barrier"], ["--no-discard"],
                ["--no-persistent", "--segments", "11", "--queues", "1", "--ring-page-order", "0", "--abi", "x86_32"],
            ])
        func features(_ options: [String]) throws {
            let image = try scratch.makeImage(megabytes: 8)
            let outcome = try pair(
                ["\(image),raw,xvda,w"], options: Self.backend + options, command: verifyJob(megabytes: 8), in: scratch)
            #expect(outcome.status == 0, "\(options): \(outcome.errors.suffix(2000))")
        }

        @Test("acceptance 9: killed in the midst of verified writes, it returns, and nothing is left") func killed() throws {
            let image = try scratch.makeImage(megabytes: 64)
            let pair = try PairUnderTest(disks: ["\(image),raw,xvda,w"], options: Self.backend, in: scratch)
            let fio = try RunningProcess(
                ["env", "uri=\(pair.uri("xvda"))"] + verifyJob(megabytes: 64).dropLast() + [
                    verifyJob(megabytes: 64)[2] + " --rate=12m,12m"
                ],
                in: scratch)
            for _ in 0..<3 {
                let before = pair.processes(role: "backend")
                try #require(before.count == 1)
                kill(before[0], SIGKILL)
                #expect(eventually(20_000) { pair.processes(role: "backend").first.map { $0 != before[0] } ?? false })
            }
            let outcome = try #require(fio.wait(seconds: 200))
            #expect(outcome.status == 0, "\(outcome.errors.suffix(2000)) \(pair.running.errors)")
            #expect(pair.stop()?.status == 0)
        }

        @Test("acceptance 9: frames cross an interface", .enabled(if: Tools.isRoot)) func network() throws {
            let script = """
                ip addr add 198.18.7.1/24 dev $CAUSEWAY_TAP_BACK_0 && ip -n $CAUSEWAY_NETNS_0 addr add 198.18.7.2/24 dev $CAUSEWAY_TAP_FRONT_0 &&
                ping -q -c 5 -i 0.2 -s 1400 198.18.7.2
                """
            let outcome = try RunningProcess.run(
                [Tools.causeway, "pair", "--vif", "mac=00:16:3e:01:02:03"] + Self.backend + ["--", "sh", "-c", script], in: scratch)
            #expect(outcome.status == 0 && outcome.output.contains(" 0% packet loss"), "\(outcome)")
        }

        @Test("a backend of QEMU's in the place of ours, by one command") func qemu() throws {
            let image = "\(scratch.path)/disk.qcow2"
            #expect(try RunningProcess.run(["qemu-img", "create", "-q", "-f", "qcow2", image, "16M"], in: scratch).status == 0)
            let command =
                "/usr/libexec/xen-qemu-system-i386 -M xenpv -xen-domid 1 -xen-attach -nodefaults -nographic -no-shutdown -monitor none"
            let outcome = try pair(
                ["\(image),qcow2,xvda,w,backendtype=qdisk"], options: ["--backend-command", command, "--timeout", "60"],
                command: verifyJob(megabytes: 16), in: scratch)
            #expect(outcome.status == 0, "\(outcome.errors.suffix(2000))")
            #expect(try RunningProcess.run(["qemu-img", "check", image], in: scratch).status == 0)
        }
    }
}
