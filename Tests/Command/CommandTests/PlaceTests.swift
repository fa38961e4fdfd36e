import Foundation
import TestSupport
import Testing

/// Places, devices and streams that somebody else has, or nobody.
extension EndToEnd {
    @Suite("A place that is taken") struct Places {
        @Test("a second pair in a run directory is refused by name, and the first one keeps all it has")
        func secondPair() throws {
            let scratch = try Scratch()
            let disk = "\(try scratch.makeImage(megabytes: 16)),raw,xvda,w"
            let pair = try PairUnderTest(disks: [disk], in: scratch)
            let before = try pair.run([Tools.causeway, "status"]).output
            let other = "\(try scratch.makeImage("other.img", megabytes: 16)),raw,xvda,w"
            let second = try pair.run([Tools.causeway, "pair", "--run-dir", pair.runDirectory, "--disk", other, "--", "true"])
            #expect(second.status == 1)
            #expect(
                second.errors.hasPrefix("causeway: pair: \(pair.runDirectory): in use by process \(pair.running.pid) ("),
                "\(second.errors)")
            #expect(second.errors.split(separator: "\n").count == 1)
            #expect(try pair.run([Tools.causeway, "status"]).output == before)
            let io = try pair.run(["qemu-io", "-f", "raw", pair.uri("xvda"), "-c", "write -P 3 0 1M", "-c", "read -P 3 0 1M"])
            #expect(io.status == 0 && !io.output.contains("failed"), "\(io.output) \(io.errors)")
            #expect(!pair.running.errors.contains("went away"))
            #expect(pair.stop()?.status == 0)
        }

        @Test("a pair does not enter a host that is there already, and leaves it as it is")
        func anothersHost() throws {
            let scratch = try Scratch()
            let directory = "\(scratch.path)/run"
            let host = try RunningProcess([Tools.causeway, "host", "--run-dir", directory], in: scratch)
            #expect(eventually(10_000) { FileManager.default.fileExists(atPath: "\(directory)/xenstored.sock") })
            let disk = "\(try scratch.makeImage(megabytes: 4)),raw,xvda,w"
            let pair = try RunningProcess.run(
                [Tools.causeway, "pair", "--run-dir", directory, "--disk", disk, "--", "true"], in: scratch, seconds: 30)
            #expect(pair.status == 1)
            #expect(pair.errors.contains("\(directory): another host serves there: process \(host.pid) ("), "\(pair.errors)")
            let list = try RunningProcess.run([Tools.causeway, "list", "--run-dir", directory], in: scratch, seconds: 30)
            #expect(list.status == 0 && !list.output.contains("guest"), "\(list.output)")
            #expect(host.isRunning)
            kill(host.pid, SIGTERM)
            #expect(host.wait(seconds: 10)?.status == 0)
        }

        @Test("a second backend of a domain and kind, and a second frontend of a disk, are refused by name; the first serves on")
        func secondDrivers() throws {
            let scratch = try Scratch()
            let pair = try PairUnderTest(disks: ["\(try scratch.makeImage(megabytes: 16)),raw,xvda,w"], in: scratch)
            let backend = try pair.run([Tools.causeway, "backend"], seconds: 20)
            #expect(
                backend.status == 1 && backend.errors.contains("domain 0's vbd is served already, by process "), "\(backend.errors)"
            )
            let frontend = try pair.run(
                [Tools.causeway, "frontend", "vbd", "xvda", "--nbd", "\(scratch.path)/second.sock", "--domain", "1"], seconds: 20)
            #expect(
                frontend.status == 1 && frontend.errors.contains("vbd 51712 of domain 1 is in use by process "),
                "\(frontend.errors)")
            // A place that is no place says so in our words, and the socket that is there belongs to somebody.
            let taken = pair.runDirectory + "/xvda.sock"
            for (socket, reason) in [
                (taken, "\(taken): process "), ("\(scratch.path)/none/x.sock", "\(scratch.path)/none: No such file or directory\n"),
            ] {
                let other = try pair.run(
                    [Tools.causeway, "frontend", "vbd", "xvda", "--nbd", socket, "--domain", "1"], seconds: 20)
                #expect(other.status == 1 && other.errors.hasPrefix("causeway: frontend: --nbd: \(reason)"), "\(other.errors)")
            }
            let io = try pair.run(["qemu-io", "-f", "raw", pair.uri("xvda"), "-c", "write -P 3 0 1M", "-c", "read -P 3 0 1M"])
            #expect(io.status == 0 && !io.output.contains("failed"), "\(io.output) \(io.errors)")
            #expect(
                !pair.running.errors.contains("went away") && !pair.running.errors.contains("initial client flags"),
                "\(pair.running.errors)")
            #expect(pair.stop()?.status == 0)
        }

        @Test("standard streams that are closed are as good as /dev/null", arguments: ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
        func closedStreams(_ closed: String) throws {
            let scratch = try Scratch()
            let image = try scratch.makeImage(megabytes: 1)
            let out = "\(scratch.path)/size"
            let pair = try RunningProcess.run(
                [
                    "sh", "-c",
                    "'\(Tools.causeway)' pair --disk '\(image),raw,xvda,w' -- sh -c 'nbdinfo --size \"$uri\" > \(out)' \(closed)",
                ],
                in: scratch, seconds: 30)
            #expect(pair.status == 0 && scratch.read("size") == "1048576\n", "\(pair)")
        }

        @Test("a run directory with a blank and a percent sign, and a relative one, work; an empty name is refused")
        func directoriesNames() throws {
            let scratch = try Scratch()
            let image = try scratch.makeImage(megabytes: 1)
            for name in ["\(scratch.path)/a b%41&c", "relative"] {
                let pair = try RunningProcess.run(
                    [
                        "sh", "-c",
                        "cd '\(scratch.path)' && exec '\(Tools.causeway)' pair --run-dir \"$0\" --disk '\(image),raw,xvda,w' -- "
                            + "sh -c 'cd / && nbdinfo --size \"$uri\"'", name,
                    ], in: scratch, seconds: 30)
                #expect(pair.status == 0 && pair.output.hasSuffix("1048576\n"), "\(name): \(pair)")
            }
            let empty = try RunningProcess.run([Tools.causeway, "list", "--run-dir", ""], in: scratch, seconds: 30)
            #expect(empty.status == 2 && empty.errors.contains("--run-dir"), "\(empty)")
        }

        @Test("the directory of a pair that was killed is swept by the next; a living one's is not")
        func killedPairsDirectory() throws {
            let scratch = try Scratch()
            let disk = "\(try scratch.makeImage(megabytes: 1)),raw,xvda,w"
            let start = {
                let pair = try RunningProcess(
                    [Tools.causeway, "pair", "--disk", disk], environment: ["TMPDIR": scratch.path], in: scratch)
                try #require(eventually(20_000) { pair.output.contains("xvda:") }, "\(pair.errors)")
                return pair
            }
            let directories = {
                try FileManager.default.contentsOfDirectory(atPath: scratch.path).filter { $0.hasPrefix("causeway.") }
            }
            let killed = try start()
            let left = try directories()
            kill(killed.pid, SIGKILL)
            _ = killed.wait(seconds: 10)
            #expect(eventually(10_000) { ProcessTable.mentioning(scratch.path).isEmpty })
            let old = Date().addingTimeInterval(-100)
            try FileManager.default.setAttributes([.modificationDate: old], ofItemAtPath: "\(scratch.path)/\(left[0])")
            let living = try start()
            let now = try directories()
            #expect(now.count == 1 && now != left, "\(now), before \(left)")
            try FileManager.default.setAttributes([.modificationDate: old], ofItemAtPath: "\(scratch.path)/\(now[0])")
            kill(living.pid, SIGTERM)
            #expect(living.wait(seconds: 20)?.status == 0)
        }
    }
}
