import Foundation
import TestSupport
import Testing

/// Devices that are attached and taken away by hand.
extension EndToEnd {
    @Suite("Attaching and detaching") struct Attaching {
        /// A host and a backend.
        private final class Host {
            let hand: ByHand
            var scratch: Scratch { hand.scratch }

            init() throws {
                hand = try ByHand(in: Scratch())
                let backend = try hand.start("backend", "--vif-kind", "none")
                try #require(eventually(10_000) { backend.errors.contains("serving domain 0's vbd") }, "\(backend.errors)")
            }

            func nodes() throws -> String {
                try hand.run(program: ["xenstore-ls", "-f", "/"]).output.split(separator: "\n")
                    // Made with the first domain, and Xen's own: they stay.
                    .filter { $0 != "/vm = \"\"" && $0 != "/libxl = \"\"" }.joined(separator: "\n")
            }
        }

        @Test("an attach that fails leaves no device, no domain and no node, and the name is free")
        func failedAttach() throws {
            let host = try Host()
            let before = try host.nodes()
            for target in ["nbd+unix:///?socket=\(host.scratch.path)/none.sock", "/"] {
                let failed = try host.hand.run("block-attach", "vdev=xvdc,access=rw,target=\(target)")
                #expect(failed.status == 1 && failed.output.isEmpty, "\(failed)")
                #expect(try host.nodes() == before, "after \(target)")
            }
            let image = try host.scratch.makeImage(megabytes: 1)
            #expect(try host.hand.run("block-attach", "\(image),raw,xvdc,w").status == 0)
        }

        @Test("a disk that a client has open stays and serves on; without one it goes, and with --force in any case")
        func detachInUse() throws {
            let host = try Host()
            let image = try host.scratch.makeImage(megabytes: 16)
            #expect(try host.hand.run("block-attach", "\(image),raw,xvda,w").status == 0)
            let uri = "nbd+unix:///?socket=\(host.scratch.path)/x.sock"
            let socket = "\(host.scratch.path)/x.sock"
            func frontend() throws -> RunningProcess {
                let frontend = try host.hand.start("frontend", "vbd", "xvda", "--nbd", socket)
                try #require(eventually(10_000) { FileManager.default.fileExists(atPath: socket) }, "\(frontend.errors)")
                return frontend
            }
            func client(seconds: Int) throws -> RunningProcess {
                try RunningProcess(
                    [
                        "fio", "--name=x", "--ioengine=nbd", "--uri=\(uri)", "--rw=randwrite", "--bs=4k", "--size=8M",
                        "--time_based",
                        "--runtime=\(seconds)",
                    ], in: host.scratch)
            }
            let first = try frontend()
            let using = try client(seconds: 5)
            usleep(1_000_000)
            let refused = try host.hand.run("block-detach", "--timeout", "1", "xvda")
            #expect(refused.status == 1)
            #expect(
                refused.errors
                    == "causeway: block-detach: xvda: in use (the frontend says: Device in use; refusing to close); "
                    + "with --force it is taken away all the same\n")
            let outcome = try #require(using.wait(seconds: 30))
            #expect(outcome.status == 0, "\(outcome.output) \(outcome.errors)")
            // Nobody uses it now, and it was not taken away meanwhile.
            #expect(first.isRunning && !first.errors.contains("went away"), "\(first.errors)")
            #expect(try host.hand.run("block-detach", "xvda").status == 0)
            #expect(first.wait(seconds: 10)?.status == 0, "a frontend whose disk was taken away ends")

            #expect(try host.hand.run("block-attach", "\(image),raw,xvda,w").status == 0)
            let second = try frontend()
            let losing = try client(seconds: 20)
            usleep(1_000_000)
            #expect(try host.hand.run("block-detach", "--force", "xvda").status == 0)
            #expect(try #require(losing.wait(seconds: 10), "the client hangs").status != 0)
            let ended = second.wait(seconds: 10)
            #expect(ended?.status == 0, "\(String(describing: ended))")
        }
    }
}
