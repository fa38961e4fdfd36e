// Programs of Debian's Xen packages, unchanged, on the loopback host (Docs/xen-programs.md).

import Foundation
import TestSupport
import Testing

extension EndToEnd {
    @Suite("Xen's programs") struct XenPrograms {
        private let scratch: Scratch
        static let tools = "/usr/lib/xen-4.17/bin"

        init() throws { scratch = try Scratch() }

        @Test("acceptance 1 and 4: QEMU's disk under our frontend, data verified; one ring page, and sixteen", arguments: [0, 4])
        func qemuDisk(order: Int) throws {
            let host = try XenHost(in: scratch)
            let image = try scratch.makeImage(megabytes: 64)
            let disk = try QemuDisk(host, image: image)
            let frontend = try disk.connect("xvda", options: ["--ring-page-order", "\(order)"])
            let outcome = try #require(try disk.fio(megabytes: 64).wait(seconds: 200))
            #expect(outcome.status == 0, "\(outcome.errors.suffix(2000)) \(disk.qemu.errors.suffix(2000))")
            if order == 4 { #expect(try host.usage(of: "1")["pages"] ?? 0 >= 16, "\(frontend.errors)") }
            let copy = "\(scratch.path)/copy.img"
            #expect(try RunningProcess.run(["nbdcopy", disk.uri, copy], in: scratch).status == 0)
            #expect(try RunningProcess.run(["cmp", image, copy], in: scratch).status == 0)
            disk.stop()
            #expect(try host.settles(), "\(host.usageText)")
        }

        @Test("acceptance 2: a qcow2 image by block-attach, served by QEMU, and detached") func qcow2() throws {
            let host = try XenHost(in: scratch)
            let image = "\(scratch.path)/disk.qcow2"
            #expect(try RunningProcess.run(["qemu-img", "create", "-q", "-f", "qcow2", image, "32M"], in: scratch).status == 0)
            let disk = try QemuDisk(host, image: nil)
            // Ours serves raw images only, and says so.
            #expect(try host.run(["block-attach", "\(image),qcow2,xvdb,w"]).status == 1)
            let attached = try host.run(["block-attach", "\(image),qcow2,xvdb,w,backendtype=qdisk"])
            #expect(attached.status == 0, "\(attached) \(disk.qemu.errors)")
            let frontend = try disk.connect("xvdb")
            let outcome = try #require(try disk.fio(megabytes: 32).wait(seconds: 200))
            #expect(outcome.status == 0, "\(outcome.errors.suffix(2000))")
            kill(frontend.pid, SIGTERM)
            _ = frontend.wait(seconds: 20)
            let detached = try host.run(["block-detach", "1", "xvdb"])
            #expect(detached.status == 0, "\(detached)")
            let store = try host.xenRun(["xenstore-ls", "/local/domain/0/backend"])
            #expect(!store.output.contains("xvdb"), "\(store)")
            disk.stop()
            let check = try RunningProcess.run(["qemu-img", "check", image], in: scratch)
            #expect(check.status == 0 && check.output.contains("No errors were found"), "\(check)")
            #expect(try host.settles(), "\(host.usageText)")
        }

        @Test("acceptance 3: QEMU is killed and started again in the midst of verified writes") func killedQemu() throws {
            let host = try XenHost(in: scratch)
            let disk = try QemuDisk(host, image: try scratch.makeImage(megabytes: 64))
            _ = try disk.connect("xvda")
            let fio = try disk.fio(megabytes: 64, ["--rate=12m,12m"])
            let image = "\(scratch.path)/disk.img"
            // Some of it is there before the kill.
            #expect(
                eventually(20_000) {
                    ((try? FileManager.default.attributesOfItem(atPath: image)[.modificationDate]) as? Date).map {
                        Date().timeIntervalSince($0) < 1
                    } ?? false
                })
            for _ in 0..<2 {
                disk.killQemu()
                try disk.restartQemu()
            }
            let outcome = try #require(fio.wait(seconds: 200))
            #expect(outcome.status == 0, "\(outcome.errors.suffix(2000)) \(disk.qemu.errors.suffix(2000))")
            #expect(try host.usage()["deferred"] == 0)
            disk.stop()
            #expect(try host.settles(), "\(host.usageText)")
        }

        @Test("acceptance 5: a vchan between two domains, each with its own way to the store") func vchan() throws {
            let host = try XenHost(domains: 2, in: scratch)
            let bytes = (0..<20 << 20).map { UInt8(truncatingIfNeeded: $0 &* 2_654_435_761 >> 11) }
            try Foundation.Data(bytes).write(to: URL(fileURLWithPath: "\(scratch.path)/in"))
            let socket = "\(scratch.path)/vchan.sock"
            let receiver = try host.start(["python3", "-c", Self.receiver, socket, "\(scratch.path)/out"])
            #expect(eventually(10_000) { receiver.output == "listening\n" }, "\(receiver.errors)")
            // It connects there for each client that it has.
            let server = try host.startXen(
                ["\(Self.tools)/vchan-socket-proxy", "-v", "-m", "server", "2", "/local/domain/1/data/vchan", socket], domain: 1)
            // The proxy's input ends when all has arrived: what ends with bytes still on their way, it waits for an
            // event that need not come, or leaves them behind, on Xen too.
            let client = try host.startXen(
                [
                    "sh", "-c",
                    "(cat \(scratch.path)/in; while [ ! -e \(scratch.path)/out.done ]; do sleep 0.05; done) | "
                        + "\(Self.tools)/vchan-socket-proxy -m client 1 /local/domain/1/data/vchan -",
                ], domain: 2)
            let outcome = try #require(client.wait(seconds: 60))
            #expect(outcome.status == 0, "\(outcome)")
            #expect(try #require(receiver.wait(seconds: 30)).status == 0, "\(receiver.errors)")
            let out = FileManager.default.contents(atPath: "\(scratch.path)/out") ?? Foundation.Data()
            #expect(out == Foundation.Data(bytes), "\(out.count) bytes")
            #expect(eventually(10_000) { (server.errors + server.output).contains("vchan client disconnected") })
            kill(server.pid, SIGTERM)
            _ = server.wait(seconds: 10)
            #expect(try host.settles(), "\(host.usageText)")
        }

        /// Listens at a Unix socket, and puts what the first that connects sends into a file.
        static let receiver = """
            import socket, sys
            s = socket.socket(socket.AF_UNIX)
            s.bind(sys.argv[1])
            s.listen(1)
            print("listening", flush=True)
            c = s.accept()[0]
            with open(sys.argv[2], "wb") as f:
                while True:
                    b = c.recv(65536)
                    if not b:
                        break
                    f.write(b)
                    if f.tell() == 20 << 20:
                        open(sys.argv[2] + ".done", "w").close()
            """

        @Test("acceptance 6: whoever's vchan peer is killed knows at once", arguments: ["server", "client"])
        func killedVchan(killed: String) throws {
            let host = try XenHost(domains: 2, in: scratch)
            let program = try host.compile(["vchan.c"], libraries: ["xenvchan", "xenstore", "xentoollog"])
            let server = try host.startXen([program, "server", "2", "/local/domain/1/data/vchan"], domain: 1)
            #expect(eventually(20_000) { server.output.hasPrefix("serving\n") }, "\(server.errors)")
            let client = try host.startXen([program, "client", "1", "/local/domain/1/data/vchan"], domain: 2)
            #expect(
                eventually(20_000) { client.output.hasSuffix("connected\n") && server.output.hasSuffix("connected\n") },
                "\(client.errors)")
            let (victim, survivor) = killed == "server" ? (server, client) : (client, server)
            kill(victim.pid, SIGKILL)
            _ = victim.wait(seconds: 5)
            let outcome = try #require(survivor.wait(seconds: 10))
            // It waits for an event for at most a second.
            #expect(outcome.status == 0 && outcome.output.hasSuffix("the other side is gone\n"), "\(outcome)")
            #expect(try host.settles(), "\(host.usageText)")
        }

        @Test(
            "a vchan within domain 0, as one tries it first; whoever is killed, the other knows", arguments: ["server", "client"])
        func ownVchan(killed: String) throws {
            let host = try XenHost(domains: 0, in: scratch)
            let program = try host.compile(["vchan.c"], libraries: ["xenvchan", "xenstore", "xentoollog"])
            let path = "/local/domain/0/data/vchan"
            let sender = try host.startXen([program, "send", "0", path, "65536"])
            #expect(eventually(20_000) { sender.output.hasPrefix("serving\n") }, "\(sender.errors)")
            let received = try host.xenRun([program, "receive", "0", path])
            #expect(received.output == "connected\n8388608 bytes are right; a store there faults\n", "\(received) \(sender.errors)")
            #expect(try #require(sender.wait(seconds: 10)).status == 0)
            #expect(try host.settles(), "\(host.usageText)")
            let server = try host.startXen([program, "server", "0", path])
            #expect(eventually(20_000) { server.output.hasPrefix("serving\n") }, "\(server.errors)")
            let client = try host.startXen([program, "client", "0", path])
            #expect(
                eventually(20_000) { client.output.hasSuffix("connected\n") && server.output.hasSuffix("connected\n") },
                "\(client.errors)")
            let (victim, survivor) = killed == "server" ? (server, client) : (client, server)
            kill(victim.pid, SIGKILL)
            _ = victim.wait(seconds: 5)
            let outcome = try #require(survivor.wait(seconds: 10))
            #expect(outcome.status == 0 && outcome.output.hasSuffix("the other side is gone\n"), "\(outcome)")
            #expect(try host.settles(), "\(host.usageText)")
        }

        @Test("acceptance 7: a vchan with rings of 256 KiB, which the client maps as it may use them") func largeVchan() throws {
            let host = try XenHost(domains: 2, in: scratch)
            let program = try host.compile(["vchan.c"], libraries: ["xenvchan", "xenstore", "xentoollog"])
            let server = try host.startXen([program, "send", "2", "/local/domain/1/data/vchan", "262144"], domain: 1)
            #expect(eventually(20_000) { server.output.hasPrefix("serving\n") }, "\(server.errors)")
            let client = try host.startXen([program, "receive", "1", "/local/domain/1/data/vchan"], domain: 2)
            let outcome = try #require(client.wait(seconds: 60))
            let sent = try #require(server.wait(seconds: 10))
            #expect(outcome.status == 0 && sent.status == 0, "\(outcome) \(sent)")
            #expect(outcome.output == "connected\n8388608 bytes are right; a store there faults\n", "\(outcome)")
            #expect(try host.settles(), "\(host.usageText)")
        }

        @Test("acceptance 8: xenconsoled finds a guest's page by its frame, killed and started again", .enabled(if: Tools.isRoot))
        func console() throws {
            let host = try XenHost(in: scratch)
            let guest = try host.start(["\(Tools.buildDirectory)/loopback-probe", "console", host.runDirectory, "1"])
            #expect(eventually(10_000) { guest.output.hasSuffix("\n") }, "\(guest.errors)")
            let numbers = guest.output.split(whereSeparator: \.isWhitespace).map(String.init)
            try #require(numbers.count == 2)
            let home = "/local/domain/1/console"
            for (key, value) in [("ring-ref", numbers[0]), ("port", numbers[1]), ("type", "xenconsoled"), ("limit", "65536")] {
                #expect(try host.xenRun(["xenstore-write", "\(home)/\(key)", value]).status == 0)
            }
            for line in ["first", "second"] {
                // It wants a few directories of its own.
                let script = """
                    mkdir -p /run/xen /var/log/xen && mount -t tmpfs none /run/xen && mount -t tmpfs none /var/log/xen &&
                    exec \(Tools.causeway) xen-run -- \(Self.tools)/xenconsoled -i --log=guest --log-dir=\(scratch.path)
                    """
                let daemon = try host.start(["unshare", "--mount", "--propagation", "private", "sh", "-c", script])
                var terminal = ""
                #expect(
                    try eventually(15_000) {
                        terminal = try host.xenRun(["xenstore-read", "\(home)/tty"]).output.trimmingCharacters(
                            in: .whitespacesAndNewlines)
                        return terminal.hasPrefix("/dev/pts/")
                    }, "\(daemon.errors)")
                let talk = try host.start(["python3", "-c", Self.terminal, terminal, line])
                let outcome = try #require(talk.wait(seconds: 30))
                #expect(outcome.status == 0 && outcome.output == "\(line.uppercased())\n", "\(outcome) \(daemon.errors)")
                kill(daemon.pid, SIGKILL)
                _ = daemon.wait(seconds: 10)
                #expect(try host.xenRun(["xenstore-rm", "\(home)/tty"]).status == 0)
            }
            let log = scratch.read("guest-guest1.log")
            #expect(log.contains("hello from the guest") && log.contains("FIRST") && log.contains("SECOND"), "\(log)")
            kill(guest.pid, SIGKILL)
            _ = guest.wait(seconds: 10)
            #expect(try host.settles(), "\(host.usageText)")
        }

        /// Writes a line to a terminal and prints the one that comes back in capitals.
        static let terminal = """
            import os, select, sys, time, tty
            f = os.open(sys.argv[1], os.O_RDWR | os.O_NOCTTY)
            tty.setraw(f)
            seen = b""
            os.write(f, sys.argv[2].encode() + b"\\n")
            end = time.time() + 20
            while sys.argv[2].upper().encode() not in seen and time.time() < end:
                if select.select([f], [], [], 1)[0]:
                    seen += os.read(f, 4096)
            print(sys.argv[2].upper() if sys.argv[2].upper().encode() in seen else seen)
            """

        @Test("acceptance 10: xl, lsevtchn and Python's xc list what there is, and come to an end") func lists() throws {
            let host = try XenHost(domains: 2, in: scratch)
            let ports = try host.xenRun(["\(Self.tools)/lsevtchn", "0"])
            #expect(ports.status == 0, "\(ports)")
            let python =
                "import xen.lowlevel.xc as x; print([(d['domid'], d['running'], d['hvm']) for d in x.xc().domain_getinfo()])"
            let domains = try host.xenRun(["env", "PYTHONPATH=/usr/lib/xen-4.17/lib/python", "python3", "-c", python])
            #expect(domains.status == 0 && domains.output == "[(0, 1, 0), (1, 1, 1), (2, 1, 1)]\n", "\(domains)")
        }

        @Test("acceptance 10: xl list, in directories of its own", .enabled(if: Tools.isRoot)) func xl() throws {
            let host = try XenHost(domains: 1, in: scratch)
            let script = """
                mount -t tmpfs none /var/lib/xen && mount -t tmpfs none /var/log/xen && mkdir -p /run/xen &&
                exec \(Tools.causeway) xen-run -- \(Self.tools)/xl list
                """
            let listed = try RunningProcess.run(
                ["unshare", "--mount", "--propagation", "private", "sh", "-c", script],
                environment: ["CAUSEWAY_RUN_DIR": host.runDirectory], in: scratch)
            #expect(listed.status == 0 && listed.output.contains("Domain-0") && listed.output.contains("guest1"), "\(listed)")
        }
    }
}
