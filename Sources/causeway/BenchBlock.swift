// causeway bench block: requests through a ring to a backend process, beside fio's io_uring on the same file.

import ArgumentParser
import Glibc

struct BenchBlock: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "block",
        abstract: "Random reads through a pair: a null device, and a file beside fio on the same file.",
        discussion: """
            Each figure is the median of its runs; ours and the reference take turns. Both sides spin 20 µs before they sleep unless
            --polling says otherwise. Reference: fio --ioengine=io_uring, one process.
            """)

    @OptionGroup var features: BlockFeatures
    @OptionGroup var threads: ReactorOptions
    @Option(help: "The file to read; made in memory if not given.") var file: String?
    @Option(help: "Seconds of one run.") var seconds = 1.0
    @Option(help: "Runs of each job.") var runs = 5
    @Option(parsing: .upToNextOption, help: "Requests in flight.") var depth = [1, 32, 128]
    @Option(parsing: .upToNextOption, help: "Request sizes in KiB.") var size = [4, 128]
    @Flag(help: "Bypasses the page cache, on both sides; --file must be on a file system that can.") var direct = false
    @Flag(help: "Writes instead of reads; the file's content is lost.") var write = false
    @Flag(help: "One JSON object instead of a table.") var json = false

    func validate() throws {
        guard seconds > 0, seconds <= 3600, (1...1000).contains(runs) else {
            throw ValidationError("--seconds and --runs must be positive")
        }
        guard !direct || file != nil else { throw ValidationError("--direct wants --file: memory has no cache to bypass") }
        guard depth.allSatisfy({ (1...1024).contains($0) }) else { throw ValidationError("--depth: 1 to 1024") }
        guard size.allSatisfy({ (1...1024).contains($0) }) else { throw ValidationError("--size: 1 to 1024 KiB") }
    }

    func run() throws {
        let directory = try PairDirectory(given: nil)
        defer { directory.remove() }
        let memory = try file == nil ? MemoryFile(megabytes: 256) : nil
        defer { memory?.remove() }
        let path = file ?? memory?.path ?? ""
        let jobs = depth.flatMap { depth in size.map { BlockJob(blockSize: $0 * 1024, depth: depth, writes: write) } }
        let largest = jobs.map { $0.depth * $0.blockSize }.max() ?? 0

        let rig = try BenchRig(directory: directory, features: features, threads: threads)
        defer { rig.end() }
        let null = try rig.attach("null:64G,,xvda", largestDepth: depth.max() ?? 1, bufferBytes: largest)
        let disk = try rig.attach(
            "vdev=xvdb,\(direct ? "direct-io-safe," : "")target=\(path)", largestDepth: depth.max() ?? 1, bufferBytes: largest)
        let fio = FioReference(path: path, seconds: seconds, direct: direct)
        var report = BenchReport()
        for job in jobs {
            let kind = "requests/s"
            var onNull = BenchResult(name: "null device, \(job.name)", unit: kind, ours: [], reference: [])
            var onFile = BenchResult(name: "file, \(job.name)", unit: kind, ours: [], reference: [])
            var events: [Double] = []
            for _ in 0..<runs {
                onNull.ours.append(try null.run(job, seconds: seconds).rate)
                let load = try disk.run(job, seconds: seconds)
                onFile.ours.append(load.rate)
                events.append(load.eventsPerOperation)
                onFile.reference.append(try fio.run(job).requestsPerSecond)
            }
            report.results += [onNull, onFile]
            report.results.append(
                BenchResult(
                    name: "events a request, \(job.name)", unit: "events", ours: events, reference: [],
                    moreIsBetter: false))
        }
        if json { printLine(report.json) } else { for line in report.table { printLine(line) } }
    }
}
