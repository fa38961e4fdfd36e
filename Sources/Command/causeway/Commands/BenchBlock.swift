// causeway bench block: requests through a ring to a backend process, beside fio's io_uring on the same file.

import ArgumentParser
import Benchmarks

struct BenchBlock: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "block",
        abstract: "Random reads through a pair: a null device, and a file beside fio on the same file.",
        discussion: """
            Each figure is the median of its runs; ours and the reference take turns. Both sides spin up to 200 µs before they sleep unless
            --polling says otherwise. Reference: fio --ioengine=io_uring, one process.
            """)

    @OptionGroup var features: BlockFeatures
    @OptionGroup var threads: ReactorOptions
    @OptionGroup var confinement: ConfinementOptions
    @Option(help: "The file to read; made in memory if not given.") var file: String?
    @Option(help: ArgumentHelp("Another disk to read, without a reference: rbd:POOL/IMAGE, an NBD URI.", valueName: "target"))
    var target: String?
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
        guard target == nil || file == nil && !direct else { throw ValidationError("--target: no file is read besides") }
        guard !direct || file != nil else { throw ValidationError("--direct wants --file: memory has no cache to bypass") }
        guard depth.allSatisfy({ (1...1024).contains($0) }) else { throw ValidationError("--depth: 1 to 1024") }
        guard size.allSatisfy({ (1...1024).contains($0) }) else { throw ValidationError("--size: 1 to 1024 KiB") }
    }

    func run() throws {
        let jobs = depth.flatMap { depth in size.map { BlockJob(blockSize: $0 * 1024, depth: depth, writes: write) } }
        let sides = BenchSides(
            backendArguments: features.arguments + threads.arguments + confinement.arguments,
            frontendOptions: features.frontendOptions,
            ringPageOrder: features.ringPageOrder, polling: features.backendOptions.polling)
        let benchmark = BlockBenchmark(
            file: file, target: target, seconds: seconds, runs: runs, jobs: jobs, direct: direct, sides: sides)
        try EarlyEnd.covering { try benchmark.run().print(json: json) }
    }
}
