import Foundation
import Testing
import TestSupport

extension EndToEnd {
    @Suite("The command line") struct CommandLineForms {
        @Test(
            "the exit status is COMMAND's",
            arguments: [("true", 0), ("exit 7", 7), ("kill -TERM $$", 143)] as [(String, Int32)])
        func exitStatus(_ script: String, _ status: Int32) throws {
            let scratch = try Scratch()
            let image = try scratch.makeImage(megabytes: 1)
            let outcome = try pair(["\(image),raw,xvda,w"], command: ["sh", "-c", script], in: scratch)
            #expect(outcome.status == status, "\(outcome.errors)")
        }

        @Test("one line for each disk, and the environment that the README promises")
        func environment() throws {
            let scratch = try Scratch()
            let image = try scratch.makeImage(megabytes: 1)
            let script =
                "echo $CAUSEWAY_NBD_xvda; echo $uri; xenstore-exists /local/domain/1 && test -S $CAUSEWAY_RUN_DIR/hypervisor.sock"
            let outcome = try pair(["\(image),raw,xvda,w"], command: ["sh", "-c", script], in: scratch)
            let lines = outcome.output.split(separator: "\n").map(String.init)
            #expect(outcome.status == 0 && lines.count == 3, "\(outcome)")
            #expect(lines.first?.hasPrefix("xvda: \(image) read-write, domain 1, nbd+unix:///?socket=") == true)
            #expect(lines.dropFirst().allSatisfy { $0.hasPrefix("nbd+unix:///?socket=") })
        }

        @Test("starts beside any Xen: none of its libraries is one that changes its name with each release") func libraries() throws
        {
            let scratch = try Scratch()
            let dynamic = try RunningProcess.run(["readelf", "-d", Tools.causeway], in: scratch)
            let names = dynamic.output.matches(of: /NEEDED.*\[(libxen[^\]]*)\]/).map { String($0.1) }
            #expect(names.count > 2 && names.allSatisfy { $0.hasSuffix(".so.1") }, "\(names)")
        }

        @Test("the DMA back ends by name, and why one is not here") func backEnds() throws {
            let scratch = try Scratch()
            let list = try RunningProcess.run([Tools.causeway, "dma-backends"], in: scratch)
            let rows = list.output.split(separator: "\n").map { $0.split(separator: " ").map(String.init) }
            let names = ["NAME", "direct", "identity", "vp", "iommu", "vfio-type1", "iommufd"]
            #expect(list.status == 0 && rows.map { $0[0] } == names, "\(list)")
            #expect(rows.dropFirst().prefix(4).allSatisfy { $0.last == "yes" })
            for (row, node) in zip(rows.suffix(2), ["/dev/vfio/vfio", "/dev/iommu"])
            where !FileManager.default.fileExists(atPath: node) {
                #expect(row.joined(separator: " ").contains("no: \(node): No such file"), "\(row)")
            }
        }

        @Test("a bad command line: status 2; a bad specification shows the place")
        func usage() throws {
            let scratch = try Scratch()
            for arguments in [
                ["pair"], ["--bogus"], ["frontend", "vbd", "nope", "--nbd", "/tmp/x"], ["pair", "--disk", "a,b,c"],
            ] {
                let outcome = try RunningProcess.run([Tools.causeway] + arguments, in: scratch)
                #expect(outcome.status == 2 && outcome.errors.hasPrefix("causeway: "), "\(arguments): \(outcome)")
            }
            let bad = try RunningProcess.run([Tools.causeway, "pair", "--disk", "a.img,foo,xvda"], in: scratch)
            #expect(
                bad.errors.contains("disk: format: unknown value `foo`") && bad.errors.contains("\n        ^\n"),
                "\(bad.errors)")
        }

        @Test("what does not work: status 1, and the message says what and why")
        func runtimeErrors() throws {
            let scratch = try Scratch()
            let missing = try RunningProcess.run(
                [Tools.causeway, "pair", "--disk", "/nowhere/a.img,,xvda"], in: scratch)
            #expect(missing.status == 1)
            #expect(missing.errors == "causeway: blkback: /nowhere/a.img: No such file or directory\n")
            let noHost = try RunningProcess.run([Tools.causeway, "list", "--run-dir", scratch.path], in: scratch)
            #expect(noHost.status == 1 && noHost.errors.contains("is `causeway host` running?"))
            let noServer = try pair(
                ["nbd+unix:///?socket=\(scratch.path)/none.sock,,xvda,w"], options: ["--timeout", "3"],
                command: ["true"], in: scratch)
            #expect(noServer.status == 1 && noServer.errors.contains("xvda"), "\(noServer)")
        }

        @Test("--reactors: so many threads for disks, and as many for interfaces; a count that makes no sense is refused")
        func reactors() throws {
            let scratch = try Scratch()
            let image = try scratch.makeImage(megabytes: 1)
            let script = """
                for pid in $(cat /proc/$PPID/task/*/children); do
                    [ "$(tr '\\0' '\\n' < /proc/$pid/cmdline | sed -n 2p)" = backend ] && cat /proc/$pid/task/*/comm
                done
                """
            let processors = min(8, ProcessInfo.processInfo.activeProcessorCount)
            for (options, count) in [([], processors), (["--reactors", "3"], 3)] as [([String], Int)] {
                let outcome = try pair(
                    ["\(image),raw,xvda,w"], options: options + ["--queues", "2"], command: ["sh", "-c", script], in: scratch)
                let names = outcome.output.split(separator: "\n").map(String.init)
                for service in ["blkback", "netback"] {
                    let wanted = (0..<count).map { "\(service)-\($0)" }
                    #expect(names.filter { $0.hasPrefix("\(service)-") }.sorted() == wanted, "\(outcome)")
                }
            }
            for words in [["backend"], ["pair", "--disk", "\(image),raw,xvda,w"]] {
                for count in ["0", "65", "-1", "two", ""] {
                    let outcome = try RunningProcess.run([Tools.causeway] + words + ["--reactors", count], in: scratch)
                    #expect(outcome.status == 2 && outcome.errors.contains("--reactors"), "\(words) \(count): \(outcome)")
                }
                let help = try RunningProcess.run([Tools.causeway, words[0], "--help"], in: scratch)
                #expect(help.output.contains("--reactors <count>"))
            }
        }

        @Test("--version: on stdout, and what the Makefile reads for the manual page and pkg-config") func version() throws {
            let scratch = try Scratch()
            let outcome = try RunningProcess.run([Tools.causeway, "--version"], in: scratch)
            #expect(outcome.status == 0 && outcome.errors.isEmpty, "\(outcome)")
            let version = try #require(outcome.output.wholeMatch(of: /causeway (\d+\.\d+\.\d+)\n/)?.1, "\(outcome)")
            var root = URL(filePath: #filePath).deletingLastPathComponent()
            while !FileManager.default.fileExists(atPath: root.appending(path: "Makefile").path), root.path != "/" {
                root.deleteLastPathComponent()
            }
            let read = try RunningProcess.run(["make", "-s", "--no-print-directory", "-C", root.path, "version"], in: scratch)
            #expect(read.output == "\(version)\n", "\(read)")
        }

        @Test("help goes to stdout, status 0, for every subcommand")
        func help() throws {
            let scratch = try Scratch()
            for words in [
                [], ["pair"], ["host"], ["backend"], ["frontend", "vbd"], ["block-attach"], ["block-list"],
                ["block-detach"],
                ["list"], ["status"], ["top"], ["metrics"], ["bench", "block"], ["bench", "grant"], ["bench", "network"],
            ] {
                let outcome = try RunningProcess.run([Tools.causeway] + words + ["--help"], in: scratch)
                #expect(
                    outcome.status == 0 && outcome.errors.isEmpty && outcome.output.contains("USAGE: causeway"),
                    "\(words)")
            }
        }
    }

    @Suite("xl's verbs and Xen's own tools") struct Verbs {
        @Test("xenstore-ls shows both sides in state 4 with the protocol's keys")
        func storeContents() throws {
            let scratch = try Scratch()
            let image = try scratch.makeImage(megabytes: 4)
            let pair = try PairUnderTest(disks: ["\(image),raw,xvda,w"], in: scratch)
            let listing = try pair.run(["xenstore-ls", "-f", "/local/domain"])
            #expect(listing.status == 0, "\(listing.errors)")
            let nodes = Dictionary(
                listing.output.split(separator: "\n").compactMap { line -> (String, String)? in
                    let halves = line.components(separatedBy: " = ")
                    return halves.count == 2 ? (halves[0].trimmingCharacters(in: .whitespaces), halves[1]) : nil
                }, uniquingKeysWith: { first, _ in first })
            let backend = "/local/domain/0/backend/vbd/1/51712/"
            let frontend = "/local/domain/1/device/vbd/51712/"
            let expected = [
                backend + "state": "4", frontend + "state": "4", backend + "params": image, backend + "mode": "w",
                backend + "online": "1", backend + "sectors": "8192", backend + "sector-size": "512",
                backend + "info": "0",
                backend + "frontend": frontend.dropLast().description,
                frontend + "backend": backend.dropLast().description,
                frontend + "virtual-device": "51712", backend + "feature-flush-cache": "1",
                backend + "feature-persistent": "1",
                frontend + "protocol": "x86_64-abi",
            ]
            for (path, value) in expected { #expect(nodes[path] == "\"\(value)\"", "\(path)") }
            for key in [
                "feature-max-indirect-segments", "multi-queue-max-queues", "max-ring-page-order", "feature-discard",
            ] {
                #expect(nodes[backend + key] != nil, "\(key)")
            }
            let rings = nodes.keys.filter { $0.hasPrefix(frontend) && $0.contains("ring-ref") }
            #expect(!rings.isEmpty && nodes.keys.contains { $0.hasPrefix(frontend) && $0.hasSuffix("event-channel") })
            let list = try pair.run([Tools.causeway, "block-list"])
            let row = list.output.split(separator: "\n").last?.split(separator: " ").map(String.init) ?? []
            #expect(list.output.hasPrefix("Vdev  BE  handle state evt-ch ring-ref BE-path"))
            #expect(
                row.count == 7 && row[0] == "51712" && row[3] == "4" && row[6] == String(backend.dropLast()),
                "\(list.output)")
            #expect(try pair.run([Tools.causeway, "list"]).output.contains("xvda"))
            // The same for programs.
            for (words, wanted) in [
                (["block-list"], ["vdev": "51712", "name": "xvda", "target": image, "state": "4", "domain": "1"]),
                (["list"], ["id": "1", "disks": "xvda"]), (["device", "list"], ["device": "vbd-1/51712", "phase": "running"]),
                (["network-list"], [:]), (["devices"], [:]), (["dma-backends"], ["name": "direct"]),
            ] as [([String], [String: String])] {
                let outcome = try pair.run([Tools.causeway] + words + ["--json"])
                let parsed = try JSONSerialization.jsonObject(with: Foundation.Data(outcome.output.utf8))
                let rows = try #require(parsed as? [[String: Any]], "\(words): \(outcome)")
                let isThere = rows.contains { row in wanted.allSatisfy { row[$0.key].map { "\($0)" } == $0.value } }
                #expect(outcome.status == 0 && (wanted.isEmpty || isThere), "\(words): \(outcome)")
            }
            let shown = try pair.run([Tools.causeway, "device", "show", "vbd-1/51712", "geometry", "--json"])
            let geometry = try JSONSerialization.jsonObject(with: Foundation.Data(shown.output.utf8)) as? [String: Any]
            #expect(geometry?["geometry.sector-bytes"] as? Int == 512, "\(shown)")
            #expect(pair.stop()?.status == 0)
        }

        @Test("host, backend, block-attach, frontend, block-detach by hand, with hot-plug")
        func byHand() throws {
            let scratch = try Scratch()
            let image = try scratch.makeImage(megabytes: 4)
            let host = try ByHand(in: scratch)
            let backend = try host.start("backend")
            let attach = try host.run("block-attach", "\(image),raw,xvda,w")
            #expect(attach.status == 0, "\(attach) \(backend.errors)")
            let again = try host.run("block-attach", "\(image),raw,xvda,w")
            #expect(again.status == 1 && again.errors.contains("already has this device"), "\(again)")
            let socket = "\(scratch.path)/x.sock"
            let frontend = try host.start("frontend", "vbd", "xvda", "--nbd", socket)
            #expect(eventually(10_000) { FileManager.default.fileExists(atPath: socket) }, "\(frontend.errors)")
            let io = try RunningProcess.run(
                [
                    "qemu-io", "-f", "raw", "nbd+unix:///?socket=\(socket)", "-c", "write -P 9 0 64k", "-c",
                    "read -P 9 0 64k",
                ], in: scratch)
            #expect(io.status == 0 && !io.output.contains("failed"), "\(io)")
            kill(frontend.pid, SIGTERM)
            _ = frontend.wait(seconds: 10)
            let detach = try host.run("block-detach", "xvda")
            #expect(detach.status == 0, "\(detach)")
            #expect(try host.run("block-list").output.split(separator: "\n").count == 1)
            #expect(try host.run("block-detach", "xvda").status == 1)
            for outcome in host.end() { #expect(outcome?.status == 0, "\(String(describing: outcome))") }
        }
    }
}
