// causeway trace of a disk: what is asked and answered, for people, for pcapng's readers and for tshark.

import Foundation
import TestSupport
import Testing

extension EndToEnd {
    @Suite("traces of disks") struct DiskTraces {
        private static let dissector = Checkout.root + "/Packaging/causeway-blkif.lua"

        @Test("each request and its answer is there, with its place and segments, for tshark as for us; Ctrl-C ends a whole file")
        func requests() throws {
            let scratch = try Scratch()
            let image = try scratch.makeImage(megabytes: 4)
            let pair = try PairUnderTest(disks: ["\(image),raw,xvda,w"], in: scratch)
            let path = "\(scratch.path)/disk.pcapng"
            let trace = try RunningProcess(
                [Tools.causeway, "trace", "1/xvda", "-w", path], environment: pair.environment, in: scratch)
            let text = try RunningProcess([Tools.causeway, "trace", "1/xvda"], environment: pair.environment, in: scratch)
            // A trace has begun when its file has a beginning; the other, when it tells of what is asked.
            #expect(eventually(10_000) { (FileManager.default.contents(atPath: path) ?? Foundation.Data()).count > 0 })
            let asked = { (command: String) in
                try pair.run(["qemu-io", "-f", "raw", pair.uri("xvda"), "-c", command]).status == 0
            }
            #expect(try eventually(10_000) { try asked("read 0 512") && text.output.contains("request") })
            #expect(try asked("write -P 7 64k 4k"))
            #expect(try asked("read 1M 1M"))
            #expect(try asked("flush") && asked("discard 128k 64k"))
            for process in [trace, text] {
                kill(process.pid, SIGINT)
                #expect(process.wait(seconds: 10)?.status == 0, "\(process.errors)")
            }
            let file = try PcapngFile([UInt8](FileManager.default.contents(atPath: path) ?? Foundation.Data()))
            #expect(file.interfaceName == "vbd1.51712" && file.linkType == 147 && file.dropped == 0)
            // As many answers as requests, and a write of 8 sectors at 128 with one whole page.
            #expect(file.packets.count { $0.direction == 1 } == file.packets.count { $0.direction == 2 })
            let write = try #require(
                file.packets.first { $0.comments.first?.contains("write, 8 sectors from 128, 1 segment") == true })
            #expect(write.comments.last?.contains(/grant [0-9]+ sectors 0-7/) == true)
            #expect(text.output.contains(/answer to id [0-9]+: discard okay, [0-9]+ µs/), "\(text.output)")
            // What tshark makes of it: every packet, a large read's segments, and times.
            let words = { (fields: [String], filter: String) in
                let shown = try RunningProcess.run(
                    ["tshark", "-X", "lua_script:\(Self.dissector)", "-r", path, "-Y", filter, "-T", "fields"]
                        + fields.flatMap { ["-e", $0] }, in: scratch)
                #expect(shown.status == 0, "\(shown)")
                return shown.output.split(separator: "\n").map { $0.split(separator: "\t").map(String.init) }
            }
            #expect(try words(["blkif.kind"], "blkif").count == file.packets.count)
            let reads = try words(
                ["blkif.sectors", "blkif.segments"], "blkif.kind == 1 && blkif.operation == 0 && blkif.sector >= 2048")
            #expect(reads.reduce(0) { $0 + (Int($1.first ?? "") ?? 0) } == 2048, "\(reads)")
            #expect(reads.reduce(0) { $0 + (Int($1.last ?? "") ?? 0) } == 256, "\(reads)")
            let answers = try words(["blkif.status", "blkif.time"], "blkif.kind == 2")
            #expect(answers.allSatisfy { $0.first == "0" && Int($0.last ?? "") ?? 0 > 0 }, "\(answers)")
            #expect(pair.stop()?.status == 0)
        }

        @Test("a trace goes on with the next connection, and ends when the disk is gone; what is not there is said in a line")
        func life() throws {
            let scratch = try Scratch()
            let image = try scratch.makeImage(megabytes: 4)
            let pair = try PairUnderTest(disks: ["\(image),raw,xvda,w"], in: scratch)
            let none = try pair.run([Tools.causeway, "trace", "1/xvdb"])
            #expect(none.status == 1 && none.errors.contains("xvdb: domain 1 has no such device"), "\(none)")
            let trace = try RunningProcess(
                [Tools.causeway, "trace", "1/51712", "--count", "400"], environment: pair.environment, in: scratch)
            let job = [
                "fio", "--name=x", "--ioengine=nbd", "--uri=\(pair.uri("xvda"))", "--rw=randwrite", "--bs=4k", "--iodepth=4",
                "--size=4m",
                "--loops=2",
            ]
            #expect(try pair.run(job).status == 0)
            let ended = try #require(trace.wait(seconds: 20), "it does not end after its count")
            #expect(
                ended.status == 0 && ended.output.split(separator: "\n").count { $0.contains("queue 0") } == 400, "\(ended.errors)")
            #expect(pair.stop()?.status == 0)
        }
    }
}
