import Foundation
import Testing
import TestSupport

/// The NBD server under clients that others wrote.
extension EndToEnd {
    @Suite("NBD clients") struct NBDClients {
        @Test(
            "a disk by TCP on this machine's own address: libnbd's tools, QEMU's, and nbdkit's proxy read and write the same bytes")
        func clients() throws {
            let scratch = try Scratch()
            let (image, other) = (try scratch.makeImage(megabytes: 16), try scratch.makeImage("other.img", megabytes: 16))
            let pair = try PairUnderTest(disks: ["\(image),raw,xvda,w"], in: scratch)
            let attached = try pair.run([Tools.causeway, "block-attach", "1", "\(other),raw,xvdb,w"])
            try #require(attached.status == 0, "\(attached)")
            let frontend = try RunningProcess(
                [
                    Tools.causeway, "frontend", "vbd", "xvdb", "--nbd", "nbd://127.0.0.1:0/the%20disk", "--run-dir",
                    pair.runDirectory,
                ],
                in: scratch)
            var uri = ""
            let isUp = eventually(20_000) {
                let line = frontend.errors.split(separator: "\n").first { $0.contains("nbd://127.0.0.1:") }
                uri = line.flatMap { $0.split(separator: " ").last }.map(String.init) ?? ""
                return !uri.isEmpty
            }
            try #require(isUp, "\(frontend.errors)")
            #expect(uri.hasSuffix("/the%20disk"))
            func succeed(_ arguments: String...) throws -> String {
                let outcome = try pair.run(arguments, seconds: 60)
                #expect(outcome.status == 0, "\(arguments): \(outcome)")
                return outcome.output
            }
            let information = try succeed("nbdinfo", "--json", uri)
            for part in [
                "\"the disk\"", "\"can_fua\": true", "\"can_multi_conn\": true", "\"block_size_minimum\": 1",
                "\"structured\": true",
            ] {
                #expect(information.contains(part), "\(part): \(information)")
            }
            #expect(try pair.run(["nbdinfo", uri.replacingOccurrences(of: "the%20disk", with: "another")]).status != 0)
            // Random bytes by libnbd, read by QEMU; parts of sectors by QEMU; the whole by nbdkit's client, over a
            // socket of its own.
            _ = try succeed("dd", "if=/dev/urandom", "of=\(scratch.path)/bytes", "bs=1M", "count=16", "status=none")
            _ = try succeed("nbdcopy", "--flush", "\(scratch.path)/bytes", uri)
            _ = try succeed("qemu-img", "compare", "-f", "raw", "-F", "raw", "\(scratch.path)/bytes", uri)
            for file in [uri, "\(scratch.path)/bytes"] {
                _ = try succeed(
                    "qemu-io", "-f", "raw", file, "-c", "write -P 7 1001 70001", "-c", "write -f -P 9 1M 4k", "-c",
                    "write -z 3M 700k", "-c",
                    "flush")
            }
            _ = try succeed(
                "nbdkit", "-U", "-", "nbd", "uri=\(uri)", "--run",
                "nbdcopy \"$uri\" '\(scratch.path)/copy' && cmp '\(scratch.path)/copy' '\(scratch.path)/bytes'")
            kill(frontend.pid, SIGTERM)
            #expect(frontend.wait(seconds: 20)?.status == 0)
            #expect(pair.stop()?.status == 0)
        }

        @Test("an address that cannot be served is said in a line, before anything is started")
        func addresses() throws {
            let scratch = try Scratch()
            for (address, said) in [
                ("nbd://192.0.2.1:1/x", "is not this machine's own"), ("nbd://127.0.0.1:99999", "not a port"),
                ("nbds://127.0.0.1", "no TLS here"),
                ("http://127.0.0.1", "a socket's path"), ("nbd+unix:///?sock=/tmp/x", "is the form"),
                (String(repeating: "x", count: 200), "too long"),
            ] {
                let outcome = try RunningProcess.run(
                    [Tools.causeway, "frontend", "vbd", "xvda", "--run-dir", scratch.path, "--nbd", address], in: scratch)
                #expect(outcome.status == 2 && outcome.errors.contains(said), "\(address): \(outcome)")
            }
        }
    }
}
