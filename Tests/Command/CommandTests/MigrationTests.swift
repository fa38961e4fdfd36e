// A guest that moves from one QEMU to another while it uses a disk, each with a back end of its own.

import Foundation
import TestSupport
import Testing

extension EndToEnd {
    @Suite("a guest migrates") struct MigrationTests {
        /// Has the QEMU whose monitor is at the first argument migrate to the second, and says how that ended.
        private static let migrate = """
            import json, socket, sys, time
            monitor = socket.socket(socket.AF_UNIX)
            monitor.connect(sys.argv[1])
            lines = monitor.makefile("rw")
            def ask(command, **arguments):
                lines.write(json.dumps({"execute": command, "arguments": arguments}) + "\\n")
                lines.flush()
                while True:
                    answer = json.loads(lines.readline())
                    if "return" in answer or "error" in answer: return answer
            lines.readline()
            ask("qmp_capabilities")
            ask("migrate-set-parameters", **{"max-bandwidth": 1 << 26})
            begun = ask("migrate", uri="unix:" + sys.argv[2])
            if "error" in begun: sys.exit(begun["error"]["desc"])
            while True:
                state = ask("query-migrate")["return"]
                if state["status"] in ("completed", "failed", "cancelled"): break
                time.sleep(0.05)
            print(state["status"], state.get("downtime"), "ms", state["ram"]["dirty-sync-count"], "rounds")
            ask("quit")
            """

        /// Where on the disk the test says that the guest has worked enough.
        private static let flag = (megabytes: 63, text: "enough")

        /// Each round has another part of the disk read into the page cache, and looks at what the cache has of the
        /// parts before; it writes and reads around the cache as well. Few pages are written after they were sent, so
        /// a mark that is missing is not sure to be seen here: LogTests look for each. The kernel takes about 1400
        /// bytes of script.
        private static let script = """
            d() { dd bs=1M "$@" 2>/dev/null || echo failed; }
            s() { eval w=\\$sum$(($2 % 4)); [ $w = $(d if=/dev/vda skip=$1 count=2 $3 | md5sum | cut -c1-32) ] || echo differs $2 $3; }
            d if=/dev/urandom of=/t count=8
            for i in 0 1 2 3; do eval sum$i=$(d if=/t skip=$((i * 2)) count=2 | md5sum | cut -c1-32); done
            for i in 0 1 2 3 4 5; do d if=/t of=/dev/vda seek=$((i * 8)) oflag=direct; done
            n=0
            while ! d if=/dev/vda skip=\(flag.megabytes) count=1 iflag=direct | grep -q \(flag.text); do
                p=$((n % 24))
                [ $p = 0 ] && echo 3 >/proc/sys/vm/drop_caches
                d if=/dev/vda of=/dev/null skip=$((p * 2)) count=2
                d if=/t of=/dev/vda skip=$((p % 4 * 2)) seek=52 count=2 oflag=direct
                s 52 $p iflag=direct
                q=$((p > 5 ? p - 5 : 0))
                while [ $q -le $p ]; do s $((q * 2)) $q; q=$((q + 1)); done
                n=$((n + 1)); echo round $n
            done
            dmesg | grep -c 'is not a head\\|I/O error' | sed 's/^/errors /'
            """

        @Test("a QEMU guest migrates between two back ends of one disk, and its verified job ends where it arrives")
        func verifiedJob() throws {
            let scratch = try Scratch()
            let directory = try VirtioGuest.directory.get()
            let image = try scratch.makeImage(megabytes: 64)
            func path(_ name: String) -> String { "\(scratch.path)/\(name).sock" }
            func export(_ name: String) throws -> RunningProcess {
                let running = try RunningProcess(
                    [
                        Tools.causeway, "export", "--disk", "\(image),raw,xvda,w!", "--socket", path("\(name)-disk"), "--queues",
                        "2",
                    ], in: scratch)
                #expect(eventually(20_000) { FileManager.default.fileExists(atPath: path("\(name)-disk")) }, "\(running.errors)")
                return running
            }
            func machine(_ name: String, _ more: [String] = []) throws -> RunningProcess {
                try RunningProcess(
                    [
                        "\(Checkout.root)/tools/guest/run", directory, Self.script, "-chardev",
                        "socket,id=c,path=\(path("\(name)-disk"))",
                        "-device", "vhost-user-blk-pci,chardev=c,num-queues=2", "-qmp", "unix:\(path("\(name)-qmp")),server,nowait",
                        "-smp", "1",
                    ] + more,
                    // QEMU 7.2 loses pages of a guest that is emulated by several threads, whatever its disks are.
                    environment: ["GUEST_THREAD": "single"], in: scratch)
            }
            func rounds(_ machine: RunningProcess) -> Int { machine.output.components(separatedBy: "round ").count - 1 }

            let (here, there) = (try export("here"), try export("there"))
            let source = try machine("here")
            let destination = try machine("there", ["-incoming", "unix:\(path("way"))"])
            #expect(eventually(90_000) { rounds(source) >= 2 || !source.isRunning }, "\(source.output)")
            #expect(eventually(20_000) { FileManager.default.fileExists(atPath: path("way")) || !destination.isRunning })
            let way = try RunningProcess.run(
                ["python3", "-c", Self.migrate, path("here-qmp"), path("way")], in: scratch, seconds: 90)
            try #require(way.status == 0 && way.output.hasPrefix("completed"), "\(way)")
            #expect(source.wait(seconds: 30) != nil)
            #expect(rounds(source) >= 2, "\(source.output)")
            #expect(eventually(60_000) { rounds(destination) >= 8 || !destination.isRunning }, "\(destination.output)")
            let file = try FileHandle(forWritingTo: URL(fileURLWithPath: image))
            try file.seek(toOffset: UInt64(Self.flag.megabytes) << 20)
            try file.write(contentsOf: Foundation.Data(Self.flag.text.utf8))
            let outcome = try #require(destination.wait(seconds: 60), "\(destination.output)")
            #expect(outcome.output.contains("errors 0"), "\(outcome)")
            for text in [source.output, outcome.output] {
                #expect(!text.contains("differs") && !text.contains("failed"), "\(text)")
            }
            for backend in [here, there] {
                kill(backend.pid, SIGTERM)
                #expect(backend.wait(seconds: 20)?.status == 0)
                #expect(backend.errors.contains("the front end is gone\n"), "\(backend.errors)")
            }
        }
    }
}
