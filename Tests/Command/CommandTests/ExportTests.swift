// Disks over vhost-user: QEMU with Debian's own virtio drivers, and the command's own words.

import Foundation
import TestSupport
import Testing

extension EndToEnd {
    @Suite("vhost-user") struct ExportTests {
        /// Runs a script in a guest that has `disks`, while `meanwhile` runs.
        private func boot(
            _ disks: [String], _ script: String, options: [String] = [], in scratch: Scratch,
            meanwhile: (RunningProcess) throws -> Void = { _ in }
        ) throws -> Outcome {
            let directory = try VirtioGuest.directory.get()
            let file = try scratch.makeFile("script")
            try file.write(contentsOf: Foundation.Data(script.utf8))
            let command = "\(Checkout.root)/tools/guest/run \(directory) \"$(cat \(scratch.path)/script)\" $qemu"
            let running = try RunningProcess(
                [Tools.causeway, "export", "--quiet"] + disks.flatMap { ["--disk", $0] } + options + ["--", "sh", "-c", command],
                in: scratch)
            try meanwhile(running)
            guard let outcome = running.wait(seconds: 150) else { throw TestFailure("\(running.output)\n\(running.errors)") }
            return outcome
        }

        @Test("a QEMU guest writes and reads a disk, discards, makes zero, and has a read-only one that it cannot write")
        func guestDisk() throws {
            let scratch = try Scratch()
            let image = try scratch.makeImage(megabytes: 64)
            let script = """
                dd if=/dev/urandom of=/t bs=1M count=8 2>/dev/null
                dd if=/t of=/dev/vda bs=1M seek=16 oflag=direct 2>/dev/null
                dd if=/dev/vda bs=1M skip=16 count=8 iflag=direct 2>/dev/null | md5sum | sed 's/^/read /'
                md5sum </t | sed 's/^/wrote /'
                echo queues $(ls /sys/block/vda/mq | wc -w)
                echo name $(cat /sys/block/vda/serial)
                echo readonly $(cat /sys/block/vda/ro) $(cat /sys/block/vdb/ro)
                echo zeroes $(cat /sys/block/vda/queue/write_zeroes_max_bytes) $(cat /sys/block/vdb/queue/write_zeroes_max_bytes)
                dd if=/t of=/dev/vda bs=1M count=8 oflag=direct 2>/dev/null
                blkdiscard -o 0 -l 4194304 /dev/vda && echo discarded
                /util/blkdiscard -z -o 4194304 -l 4194304 /dev/vda && echo zeroed
                dmesg | grep -c 'is not a head\\|I/O error' | sed 's/^/errors /'
                """
            let outcome = try boot(["\(image),raw,xvda,w", "null:16M,,xvdb,r"], script, options: ["--queues", "2"], in: scratch)
            #expect(outcome.status == 0, "\(outcome)")
            func word(_ name: String) -> String? {
                outcome.output.components(separatedBy: .newlines).first { $0.hasPrefix("\(name) ") }.map {
                    String($0.dropFirst(name.count + 1))
                }
            }
            let written = try #require(word("wrote"), "\(outcome)")
            #expect(word("read") == written)
            #expect(word("queues") == "2")
            #expect(word("name") == "xvda")
            #expect(word("readonly") == "0 1")
            #expect(outcome.output.contains("discarded"))
            // What the driver was told of, or the guest's kernel would write the zeroes itself.
            #expect(word("zeroes") == "67108864 0")
            #expect(outcome.output.contains("zeroed"))
            #expect(word("errors") == "0")
            let there = try RunningProcess.run(
                [
                    "sh", "-c",
                    "dd if=\(image) bs=1M skip=16 count=8 2>/dev/null | md5sum; dd if=\(image) bs=1M count=8 2>/dev/null | tr -d '\\0' | wc -c",
                ],
                in: scratch)
            #expect(there.output == "\(written)\n0\n", "\(there)")
        }

        /// How a guest with an IOMMU takes addresses back, and what its devices have for that.
        enum TakingBack: String, CaseIterable {
            /// One by one, at once.
            case strict
            /// All of them, later: a device needs address translation of its own, which QEMU's have behind a port.
            case lazy
            /// What the devices are given beside `iommu_platform`.
            var bus: String { self == .lazy ? ",bus=express" : "" }
        }

        @Test("a guest whose disk is behind an IOMMU has what it wrote", arguments: TakingBack.allCases)
        func behindIommu(_ taking: TakingBack) throws {
            let scratch = try Scratch()
            let image = try scratch.makeImage(megabytes: 64)
            let script = """
                echo platform $(cut -c34 /sys/bus/virtio/devices/virtio0/features) $(ls /sys/kernel/iommu_groups | wc -w)
                dd if=/dev/urandom of=/t bs=1M count=4 2>/dev/null
                for round in 1 2; do
                    for i in 0 1 2; do (dd if=/t of=/dev/vda bs=64k seek=$((i * 256)) oflag=direct 2>/dev/null || echo failed) & done
                    wait
                    for i in 0 1 2; do dd if=/dev/vda bs=1M skip=$((i * 16)) count=4 iflag=direct 2>/dev/null | md5sum; done
                done
                md5sum </t
                dmesg | grep -c 'is not a head\\|I/O error' | sed 's/^/errors /'
                """
            try scratch.makeFile("script").write(contentsOf: Foundation.Data(script.utf8))
            let outcome = try RunningProcess.run(
                [
                    "env", "GUEST_IOMMU=\(taking)", Tools.causeway, "export", "-q", "--disk", "\(image),raw,xvda,w", "--queues",
                    "2", "--",
                    "sh", "-c",
                    "\(try VirtioGuest.command(in: scratch.path)),iommu_platform=on,ats=on,disable-legacy=on\(taking.bus)",
                ], in: scratch, seconds: 150)
            let lines = outcome.output.split(whereSeparator: \.isNewline).map(String.init)
            let begin = try #require(lines.firstIndex { $0.hasPrefix("platform ") }, "\(outcome)")
            let words = lines[begin].split(separator: " ")
            #expect(words[1] == "1" && words[2] != "0", "\(outcome)")
            #expect(Set(lines[(begin + 1)...].prefix(7)).count == 1, "\(outcome)")
            #expect(lines.contains("errors 0") && !lines.contains("failed"), "\(outcome)")
            let there = try RunningProcess.run(
                ["sh", "-c", "dd if=\(image) bs=1M skip=16 count=4 2>/dev/null | md5sum"], in: scratch)
            #expect(lines.contains(there.output.trimmingCharacters(in: .newlines)), "\(there) \(outcome)")
        }

        @Test("a QEMU that listens is gone to, and so is the next one at its socket")
        func listeningQemu() throws {
            let scratch = try Scratch()
            let image = try scratch.makeImage(megabytes: 8)
            let directory = try VirtioGuest.directory.get()
            let guest = "\(Checkout.root)/tools/guest/run \(directory)"
            let command = """
                \(guest) 'echo one | dd of=/dev/vda bs=4096 conv=sync oflag=direct 2>/dev/null; echo wrote' $qemu
                \(guest) 'dd if=/dev/vda bs=4096 count=1 iflag=direct 2>/dev/null | tr -d "\\000" | sed "s/^/read /"' $qemu
                """
            let outcome = try RunningProcess.run(
                [Tools.causeway, "export", "--client", "--disk", "\(image),raw,xvda,w", "--", "sh", "-c", command], in: scratch,
                seconds: 100)
            #expect(outcome.status == 0 && outcome.output.contains("wrote") && outcome.output.contains("read one"), "\(outcome)")
            #expect(outcome.errors.components(separatedBy: "met a front end").count == 3, "\(outcome)")
        }

        @Test("one that goes to its front ends is not upgraded, and ends whoever listens or not")
        func clientEnds() throws {
            let scratch = try Scratch()
            let outcome = try RunningProcess.run(
                [
                    Tools.causeway, "export", "--client", "--disk", "null:1M,,xvda", "--", "sh", "-c",
                    "\(Tools.causeway) upgrade; echo status $?; echo \"$qemu\"; [ -e $CAUSEWAY_VHOST_xvda ] || echo nothing there",
                ], in: scratch, seconds: 20)
            #expect(outcome.status == 0 && outcome.output.hasSuffix("nothing there\n"), "\(outcome)")
            #expect(outcome.output.contains("xvda.sock,server=on,wait=off -device vhost-user-blk-pci"), "\(outcome)")
            #expect(outcome.output.contains("status 1"), "\(outcome)")
            #expect(outcome.errors.contains("upgrade: refused: it goes to its front ends"), "\(outcome)")
        }

        @Test("a disk that grows is seen to grow by the guest")
        func grows() throws {
            let scratch = try Scratch()
            let image = try scratch.makeImage(megabytes: 8)
            let script = """
                echo begun $(cat /sys/block/vda/size)
                for i in $(seq 60); do [ $(cat /sys/block/vda/size) != 16384 ] && break; sleep 0.5; done
                echo ended $(cat /sys/block/vda/size)
                dd if=/dev/vda of=/dev/null bs=1M skip=15 count=1 iflag=direct 2>&1 | tail -1
                """
            let outcome = try boot(["\(image),raw,xvda,w"], script, in: scratch) { running in
                #expect(eventually(60_000) { running.output.contains("begun") || !running.isRunning })
                let file = try FileHandle(forWritingTo: URL(fileURLWithPath: image))
                try file.truncate(atOffset: 16 << 20)
            }
            #expect(outcome.output.contains("begun 16384"), "\(outcome)")
            #expect(outcome.output.contains("ended 32768"), "\(outcome)")
        }

        @Test(
            "a back end that is killed in mid-request costs a QEMU guest a pause and nothing else", arguments: ["", ",packed=on"])
        func killed(rings: String) throws {
            let scratch = try Scratch()
            let directory = try VirtioGuest.directory.get()
            let image = try scratch.makeImage(megabytes: 64)
            // Each write waits its turn, so that some are in flight whenever the back end is killed. Not nbdkit's
            // delay: nbdkit ends by an assertion of its own when a client is gone in mid-request.
            let slow = "\(scratch.path)/slow.sock"
            let server = try RunningProcess(
                [
                    "qemu-nbd", "--persistent", "--shared", "4", "--socket", slow, "--object",
                    "throttle-group,id=slow,x-iops-write=200", "--image-opts",
                    "driver=throttle,throttle-group=slow,file.driver=raw,file.file.driver=file,file.file.filename=\(image)",
                ], in: scratch)
            defer { kill(server.pid, SIGKILL) }
            #expect(eventually(10_000) { FileManager.default.fileExists(atPath: slow) })
            let socket = "\(scratch.path)/x.sock"
            let export = [
                Tools.causeway, "export", "--disk", "vdev=xvda,access=rw,target=nbd+unix:///?socket=\(slow)", "--socket", socket,
                "--queues", "2",
            ]
            let script = """
                dd if=/dev/urandom of=/t bs=1M count=16 2>/dev/null
                echo begun
                for i in 0 1 2 3; do
                    (for n in 1 2 3; do dd if=/t of=/dev/vda bs=64k seek=$((i * 256)) oflag=direct 2>/dev/null || echo failed; done) &
                done
                wait
                for i in 0 1 2 3; do dd if=/dev/vda bs=1M skip=$((i * 16)) count=16 iflag=direct 2>/dev/null | md5sum; done
                md5sum </t
                dmesg | grep -c 'is not a head\\|I/O error' | sed 's/^/errors /'
                """
            var backend = try RunningProcess(export, in: scratch)
            #expect(eventually(10_000) { FileManager.default.fileExists(atPath: socket) })
            let guest = try RunningProcess(
                [
                    "\(Checkout.root)/tools/guest/run", directory, script, "-chardev", "socket,id=c,path=\(socket),reconnect=1",
                    "-device", "vhost-user-blk-pci,chardev=c,num-queues=2\(rings)",
                ], in: scratch)
            #expect(eventually(60_000) { guest.output.contains("begun") || !guest.isRunning })
            var hasRedone = false
            for _ in 0..<3 {
                sleepMilliseconds(700)
                kill(backend.pid, SIGKILL)
                _ = backend.wait(seconds: 10)
                backend = try RunningProcess(export, in: scratch)
                #expect(
                    eventually(20_000) { backend.errors.contains("front end connected") || !guest.isRunning }, "\(backend.errors)")
                hasRedone = eventually(2000) { backend.errors.contains("are done again") } || hasRedone
            }
            let outcome = try #require(guest.wait(seconds: 150), "\(guest.output)")
            let sums = outcome.output.split(whereSeparator: \.isNewline).filter { $0.hasSuffix("-") }
            #expect(hasRedone, "nothing was in flight at any of the kills")
            #expect(sums.count == 5 && Set(sums).count == 1, "\(outcome)")
            #expect(outcome.output.contains("errors 0"), "\(outcome)")
            #expect(!outcome.output.contains("failed"), "\(outcome)")
            kill(backend.pid, SIGTERM)
            #expect(backend.wait(seconds: 20)?.status == 0)
        }

        @Test("an export becomes another program ten times under a guest's writes: pauses, and nothing else")
        func upgraded() throws {
            let scratch = try Scratch()
            let image = try scratch.makeImage(megabytes: 64)
            let script = """
                dd if=/dev/urandom of=/t bs=1M count=4 2>/dev/null
                echo begun
                for i in 0 1 2 3; do
                    (while [ ! -e /stop ]; do
                        dd if=/t of=/dev/vda bs=16k seek=$((i * 1024)) oflag=direct 2>/dev/null || echo failed
                        dd if=/dev/vda bs=1M skip=$((i * 16)) count=4 iflag=direct 2>/dev/null | cmp - /t || echo differs
                    done) &
                done
                while [ $(cat /sys/block/vda/size) = 131072 ]; do sleep 0.2; done
                : >/stop
                wait
                echo size $(cat /sys/block/vda/size)
                dmesg | grep -c 'is not a head\\|I/O error' | sed 's/^/errors /'
                """
            let directory = "\(scratch.path)/sockets"
            var pauses: [Double] = []
            let outcome = try boot(
                ["\(image),raw,xvda,w"], script, options: ["--queues", "2", "--socket-dir", directory], in: scratch
            ) { running in
                #expect(eventually(60_000) { running.output.contains("begun") || !running.isRunning })
                for _ in 0..<10 {
                    sleepMilliseconds(200)
                    let upgrade = try RunningProcess.run(
                        [Tools.causeway, "upgrade", "--socket-dir", directory], in: scratch, seconds: 30)
                    #expect(upgrade.status == 0, "\(upgrade)")
                    let words = upgrade.output.split(separator: " ")
                    pauses.append(try #require(words.dropLast().last.flatMap { Double($0) }, "\(upgrade)"))
                }
                // What cannot go on with it is refused, and it goes on as it was.
                // The last one is gone when it is to be run: by then the disk has been put by, and is taken up again.
                let vanishing = "\(scratch.path)/vanishing"
                try Foundation.Data("#!/bin/sh\necho 2\nrm \"$0\"\n".utf8).write(to: URL(fileURLWithPath: vanishing))
                chmod(vanishing, 0o755)
                for (program, reason) in [
                    ("/bin/true", "cannot go on with"), ("/bin/false", "cannot go on with"), (vanishing, "No such file"),
                ] {
                    let upgrade = try RunningProcess.run(
                        [Tools.causeway, "upgrade", "--socket-dir", directory, "--program", program], in: scratch, seconds: 30)
                    #expect(upgrade.status == 1 && upgrade.errors.contains(reason), "\(upgrade)")
                }
                // The disk grows, which ends the guest's work: the configuration's way has been handed on, too.
                let file = try FileHandle(forWritingTo: URL(fileURLWithPath: image))
                try file.truncate(atOffset: 65 << 20)
            }
            #expect(outcome.status == 0, "\(outcome)")
            #expect(outcome.output.contains("size 133120"), "\(outcome)")
            #expect(outcome.output.contains("errors 0"), "\(outcome)")
            #expect(!outcome.output.contains("failed") && !outcome.output.contains("differ"), "\(outcome)")
            print("ten upgrades under a guest's writes: longest pause \(pauses.max() ?? 0) ms, all \(pauses)")
            #expect(pauses.count == 10 && pauses.allSatisfy { $0 < 5000 })
            let left = try FileManager.default.contentsOfDirectory(atPath: directory)
            #expect(left == ["pair.lock"], "\(left)")
        }

        @Test("a socket whose name leaves no room for another beside it is served, and cannot be upgraded")
        func longName() throws {
            let scratch = try Scratch()
            let socket = "\(scratch.path)/\(String(repeating: "s", count: 106 - scratch.path.utf8.count))"
            let outcome = try RunningProcess.run(
                [
                    Tools.causeway, "export", "--disk", "null:1M,,xvda", "--socket", socket, "--", "sh", "-c",
                    "[ -S $CAUSEWAY_VHOST_xvda ] && echo there; echo ${CAUSEWAY_EXPORT-none}",
                ], in: scratch, seconds: 30)
            #expect(outcome.status == 0 && outcome.output.hasSuffix("there\nnone\n"), "\(outcome)")
            #expect(outcome.errors.contains("it cannot be upgraded"), "\(outcome)")
        }

        @Test("COMMAND sees each disk's socket, its status is the command's, and nothing is left")
        func command() throws {
            let scratch = try Scratch()
            let script =
                #"echo "$CAUSEWAY_VHOST_xvda" "$CAUSEWAY_VHOST_xvdb"; [ -S "$CAUSEWAY_VHOST_xvda" ] && echo "$qemu"; exit 7"#
            let outcome = try RunningProcess.run(
                [Tools.causeway, "export", "-q", "--disk", "null:1M,,xvda", "--disk", "null:1M,,xvdb", "--", "sh", "-c", script],
                environment: ["TMPDIR": scratch.path], in: scratch)
            #expect(outcome.status == 7)
            #expect(outcome.errors == "")
            let lines = outcome.output.split(separator: "\n").map(String.init)
            let paths = try #require(lines.first).split(separator: " ").map(String.init)
            #expect(paths.count == 2 && paths.allSatisfy { !FileManager.default.fileExists(atPath: $0) })
            #expect(lines.last?.contains("path=\(paths[1]) -device vhost-user-blk-pci,chardev=causeway1") == true)
            #expect(try FileManager.default.contentsOfDirectory(atPath: scratch.path).allSatisfy { !$0.hasPrefix("causeway.") })
        }

        @Test("what cannot be is said in one line, and leaves nothing")
        func mistakes() throws {
            let scratch = try Scratch()
            let image = try scratch.makeImage(megabytes: 1)
            let cases: [([String], Int32, String)] = [
                ([], 2, "--disk"), (["--disk", "\(image),raw,xvda,w", "--disk", "\(image),raw,xvda,r"], 2, "xvda: given twice"),
                (["--disk", "null:1M,,xvda", "--disk", "null:1M,,xvdb", "--socket", "\(scratch.path)/s"], 2, "--socket"),
                (["--disk", "null:1M,,xvda", "--socket", "/nowhere/s.sock"], 1, "/nowhere/s.sock"),
                (["--disk", "null:1M,,xvda", "--socket", image], 1, image),
                (["--disk", "\(image).not,raw,xvda,w"], 1, "\(image).not"),
                (["--disk", "null:1M,,xvda", "--queues", "0"], 2, "--queues"),
            ]
            for (arguments, status, words) in cases {
                let outcome = try RunningProcess.run(
                    [Tools.causeway, "export"] + arguments + ["--", "true"], in: scratch, seconds: 20)
                #expect(outcome.status == status, "\(arguments): \(outcome)")
                #expect(outcome.errors.contains(words), "\(arguments): \(outcome)")
            }
        }

        @Test("without COMMAND it serves until it is asked to end; a second one at the same socket is refused")
        func untilInterrupted() throws {
            let scratch = try Scratch()
            let socket = "\(scratch.path)/x.sock"
            let arguments = [Tools.causeway, "export", "--disk", "null:1M,,xvda", "--socket", socket]
            let first = try RunningProcess(arguments, in: scratch)
            #expect(eventually(10_000) { first.output.contains("vhost-user at \(socket)") })
            // Without a front end, and beside a socket of its own; the process is the same.
            let upgrade = try RunningProcess.run([Tools.causeway, "upgrade", "--socket", socket], in: scratch, seconds: 30)
            #expect(upgrade.status == 0 && upgrade.output.hasPrefix("upgraded to causeway "), "\(upgrade)")
            let nowhere = try RunningProcess.run(
                [Tools.causeway, "upgrade", "--socket", "\(scratch.path)/y"], in: scratch, seconds: 30)
            #expect(nowhere.status == 1 && nowhere.errors.contains("no export is there"), "\(nowhere)")
            let which = try RunningProcess.run([Tools.causeway, "upgrade"], in: scratch, seconds: 30)
            #expect(which.status == 2 && which.errors.contains("--socket-dir"), "\(which)")
            let second = try RunningProcess.run(arguments, in: scratch, seconds: 20)
            #expect(second.status == 1)
            #expect(second.errors.contains("\(socket): somebody listens there already"), "\(second)")
            #expect(FileManager.default.fileExists(atPath: socket))
            kill(first.pid, SIGTERM)
            let outcome = try #require(first.wait(seconds: 20))
            #expect(outcome.status == 0, "\(outcome)")
            #expect(!FileManager.default.fileExists(atPath: socket))
        }
    }
}
