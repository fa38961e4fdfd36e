import Foundation
import Testing
import TestSupport

/// Taps and their scripts over the life and death of backends.
extension EndToEnd {
    @Suite("Taps that outlive a backend (as root)", .enabled(if: getuid() == 0 && access("/dev/net/tun", F_OK) == 0))
    struct VifTaps {
        /// A host and what is started on it by hand.
        private final class Host {
            let scratch: Scratch
            let directory: String
            private var daemons: [RunningProcess] = []
            /// Names that begin so are this test's.
            let prefix = "cw\(getpid() % 100_000)\(["a", "b", "c", "d"].randomElement() ?? "a")"

            init() throws {
                scratch = try Scratch()
                directory = "\(scratch.path)/run"
                _ = try start("host")
                let directory = directory
                try #require(eventually(10_000) { FileManager.default.fileExists(atPath: "\(directory)/xenstored.sock") })
            }

            deinit {
                for daemon in daemons.reversed() where daemon.isRunning {
                    kill(daemon.pid, SIGTERM)
                    _ = daemon.wait(seconds: 20)
                }
                for name in taps { _ = try? RunningProcess.run(["ip", "link", "delete", name], in: scratch) }
            }

            var environment: [String: String] {
                ["CAUSEWAY_RUN_DIR": directory, "XENSTORED_PATH": "\(directory)/xenstored.sock"]
            }

            func start(_ words: String...) throws -> RunningProcess {
                let daemon = try RunningProcess([Tools.causeway] + words, environment: environment, in: scratch)
                daemons.append(daemon)
                return daemon
            }

            /// A backend with journals, once it serves.
            func backend() throws -> RunningProcess {
                let backend = try start("backend", "--journal", "\(scratch.path)/journal", "--backend-kind", "none")
                #expect(eventually(10_000) { backend.errors.contains("serving domain 0's vif") }, "\(backend.errors)")
                return backend
            }

            func run(_ words: String..., seconds: Double = 30) throws -> Outcome {
                try RunningProcess.run(words, environment: environment, in: scratch, seconds: seconds)
            }

            func attach(_ name: String, _ more: String = "") throws -> Outcome {
                try run(Tools.causeway, "network-attach", "mac=00:16:3e:01:02:03", "vifname=\(prefix)\(name)\(more)")
            }

            var taps: [String] {
                ((try? FileManager.default.contentsOfDirectory(atPath: "/sys/class/net")) ?? []).filter { $0.hasPrefix(prefix) }
                    .sorted()
            }

            func index(_ name: String) -> String? {
                try? String(contentsOfFile: "/sys/class/net/\(prefix)\(name)/ifindex", encoding: .utf8)
            }

            var records: [String] {
                ((try? FileManager.default.contentsOfDirectory(atPath: "\(scratch.path)/journal")) ?? [])
                    .filter { !$0.hasSuffix(".lock") }.sorted()
            }

            /// An executable that writes down how it is called, after a while.
            func script(_ name: String, onlineSeconds: Double, offlineSeconds: Double) throws -> String {
                let path = "\(scratch.path)/\(name)"
                let file = try scratch.makeFile(name)
                let text = """
                    #!/bin/sh
                    echo "$1 begins $vif" >> '\(scratch.path)/calls'
                    if [ "$1" = online ]; then sleep \(onlineSeconds); else sleep \(offlineSeconds); fi
                    echo "$1 $vif" >> '\(scratch.path)/calls'

                    """
                try file.write(contentsOf: Foundation.Data(text.utf8))
                try file.close()
                chmod(path, 0o755)
                return path
            }

            var calls: [String] { scratch.read("calls").split(separator: "\n").map(String.init) }
        }

        @Test("a tap whose guest went while no backend ran is removed by the next, its script called; another's stays as it is")
        func leftOver() throws {
            let host = try Host()
            let hook = try host.script("hook", onlineSeconds: 0, offlineSeconds: 0)
            let first = try host.backend()
            for name in ["x", "y"] { #expect(try host.attach(name, ",script=\(hook)").status == 0, "\(first.errors)") }
            #expect(try host.attach("z").status == 0)
            let before = ["x", "y", "z"].map { host.index($0) }
            #expect(!before.contains(nil))
            kill(first.pid, SIGKILL)
            _ = first.wait(seconds: 10)
            #expect(host.taps.count == 3, "they outlive the backend")
            for number in [0, 2] { #expect(try host.run("xenstore-rm", "/local/domain/0/backend/vif/1/\(number)").status == 0) }
            let second = try host.backend()
            #expect(eventually(10_000) { host.taps == [host.prefix + "y"] }, "\(host.taps) \(second.errors)")
            #expect(host.index("y") == before[1])
            #expect(eventually(10_000) { host.records == ["vif-1-1.tap"] }, "\(host.records)")
            let online = ["x", "y"].flatMap { ["online begins \(host.prefix)\($0)", "online \(host.prefix)\($0)"] }
            // What was in its place already is left there.
            #expect(host.calls == online + ["offline begins \(host.prefix)x", "offline \(host.prefix)x"])
            #expect(second.errors.contains("is no more; removed"))
            #expect(try host.run(Tools.causeway, "network-detach", "1").status == 0)
            #expect(eventually(10_000) { host.taps.isEmpty && host.records.isEmpty }, "\(host.taps) \(host.records)")
        }

        @Test("a tap that somebody else keeps is joined and stays, whatever becomes of the backend")
        func somebodyElses() throws {
            let host = try Host()
            let name = host.prefix + "k"
            #expect(try host.run("ip", "tuntap", "add", "dev", name, "mode", "tap", "multi_queue", "vnet_hdr").status == 0)
            let index = host.index("k")
            for isKilled in [true, false] {
                let backend = try host.backend()
                if isKilled { #expect(try host.attach("k").status == 0, "\(backend.errors)") }
                #expect(host.records == ["vif-1-0.tap"])
                if isKilled {
                    kill(backend.pid, SIGKILL)
                } else {
                    #expect(try host.run(Tools.causeway, "network-detach", "0").status == 0)
                    kill(backend.pid, SIGTERM)
                }
                _ = backend.wait(seconds: 10)
                #expect(host.taps == [name] && host.index("k") == index)
            }
            #expect(host.records.isEmpty)
            #expect(try host.run("ip", "link", "delete", name).status == 0)
        }

        @Test("a tap that another pair has, or another program, is refused by name, and keeps its frames")
        func tapsInUse() throws {
            let host = try Host()
            let name = host.prefix + "u"
            let pair = try PairUnderTest(disks: [], vifs: ["mac=00:16:3e:01:02:03,vifname=\(name)"], in: Scratch())
            let second = try host.run(Tools.causeway, "pair", "--vif", "mac=00:16:3e:01:02:09,vifname=\(name)", "--", "true")
            #expect(second.status == 1 && second.errors.contains("tap \(name): in use by process "), "\(second.errors)")
            #expect(pair.stop()?.status == 0)

            // Any program that has it open gives it its carrier.
            let other = try RunningProcess(
                [
                    "python3", "-c",
                    """
                    import fcntl, os, struct, time
                    tap = os.open("/dev/net/tun", os.O_RDWR)
                    fcntl.ioctl(tap, 0x400454CA, struct.pack("16sH22x", b"\(name)", 0x5102))
                    os.system("ip link set \(name) up")
                    print("up", flush=True)
                    time.sleep(60)
                    """,
                ], in: host.scratch)
            #expect(eventually(10_000) { other.output == "up\n" }, "\(other.errors)")
            let third = try host.run(Tools.causeway, "pair", "--vif", "mac=00:16:3e:01:02:09,vifname=\(name)", "--", "true")
            #expect(third.status == 1 && third.errors.contains("tap \(name): cannot use it, for another program does"), "\(third)")
            kill(other.pid, SIGTERM)
            _ = other.wait(seconds: 10)
        }

        @Test("a script that sleeps, online and offline, holds up its own interface and no other")
        func slowScripts() throws {
            let host = try Host()
            let slow = try host.script("slow", onlineSeconds: 3, offlineSeconds: 3)
            let backend = try host.start("backend", "--backend-kind", "none")
            #expect(eventually(10_000) { backend.errors.contains("serving") })
            #expect(try host.attach("a").status == 0)
            let clock = ContinuousClock()
            let begun = clock.now
            let waiting = try host.start("network-attach", "mac=00:16:3e:01:02:04", "vifname=\(host.prefix)s", "script=\(slow)")
            #expect(eventually(10_000) { host.calls.count == 1 }, "\(host.calls)")
            let quick = try host.attach("b")
            #expect(quick.status == 0 && clock.now - begun < .seconds(2), "\(quick)")
            #expect(waiting.isRunning, "the one with the script is not served yet")
            #expect(waiting.wait(seconds: 15)?.status == 0, "\(backend.errors)")
            #expect(clock.now - begun >= .seconds(3))

            let gone = clock.now
            #expect(try host.run(Tools.causeway, "network-detach", "1").status == 0)
            #expect(eventually(10_000) { host.calls.count == 3 }, "\(host.calls)")
            #expect(try host.attach("c").status == 0)
            #expect(clock.now - gone < .seconds(2), "\(clock.now - gone)")
            #expect(host.taps.contains(host.prefix + "s"), "its script still runs")
            // The same again: made when the other is gone, not before.
            #expect(try host.attach("s").status == 0)
            #expect(clock.now - gone >= .seconds(3))
            #expect(host.calls.count == 4 && host.calls.last == "offline \(host.prefix)s", "\(host.calls)")
            #expect(host.taps.count == 4)

            // Nothing is left half undone at the end.
            #expect(try host.attach("t", ",script=\(slow)").status == 0)
            kill(backend.pid, SIGTERM)
            #expect(backend.wait(seconds: 20)?.status == 0)
            #expect(host.calls.last == "offline \(host.prefix)t" && host.taps.isEmpty, "\(host.calls) \(host.taps)")
        }

        @Test("a script that fails or does not end: the interface says so, and no tap is left", .timeLimit(.minutes(2)))
        func failingScripts() throws {
            let host = try Host()
            let endless = try host.script("endless", onlineSeconds: 60, offlineSeconds: 0)
            let backend = try host.backend()
            let failed = try host.attach("f", ",script=/bin/false")
            #expect(failed.status != 0 && failed.errors.contains("/bin/false online: exited with status 1"), "\(failed)")
            let attach = try host.run(
                Tools.causeway, "network-attach", "--timeout", "20", "mac=00:16:3e:01:02:05",
                "vifname=\(host.prefix)e,script=\(endless)")
            #expect(attach.status != 0 && attach.errors.contains("not done after 10 s"), "\(attach) \(backend.errors)")
            #expect(eventually(10_000) { host.taps.isEmpty && host.records.isEmpty }, "\(host.taps) \(host.records)")
        }
    }
}
