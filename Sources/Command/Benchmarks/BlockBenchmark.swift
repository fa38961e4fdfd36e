// Requests through a ring to a backend process, beside fio's io_uring on the same file.

import CommandSupport

/// What `bench block` is asked for.
package struct BlockBenchmark {
    private let file: String?
    private let target: String?
    private let seconds: Double
    private let runs: Int
    private let jobs: [BlockJob]
    private let direct: Bool
    private let sides: BenchSides

    /// - Parameters:
    ///   - file: what is read, or written; nil: a file made in memory.
    ///   - target: another disk in its place, of which there is no reference; nil: none.
    ///   - seconds: of one run.
    ///   - runs: of each job.
    ///   - direct: whether the page cache is bypassed, on both sides.
    ///   - sides: how the backend and the frontends are made.
    package init(
        file: String?, target: String? = nil, seconds: Double, runs: Int, jobs: [BlockJob], direct: Bool, sides: BenchSides
    ) {
        self.file = file
        self.target = target
        self.seconds = seconds
        self.runs = runs
        self.jobs = jobs
        self.direct = direct
        self.sides = sides
    }

    /// Runs every job on a null device and on the file; the reference takes its turn after each.
    package func run() throws -> BenchReport {
        let directory = try EarlyEnd.makeDirectory()
        defer { EarlyEnd.remove(directory) }
        let memory = try file == nil && target == nil ? MemoryFile(megabytes: 256) : nil
        defer { memory?.remove() }
        let path = target ?? file ?? memory?.path ?? ""
        let (depth, bytes) = (jobs.map(\.depth).max() ?? 1, jobs.map { $0.depth * $0.blockSize }.max() ?? 0)

        let rig = try BenchRig(directory: directory, sides: sides)
        defer { rig.end() }
        let null = try rig.attach("null:64G,,xvda", largestDepth: depth, bufferBytes: bytes)
        let disk = try rig.attach(
            "vdev=xvdb,\(direct ? "direct-io-safe," : "")target=\(path)", largestDepth: depth, bufferBytes: bytes)
        let fio = target == nil ? FioReference(path: path, seconds: seconds, direct: direct) : nil
        var report = BenchReport()
        for job in jobs { report.results += try measure(job, null, disk, fio) }
        return report
    }

    private func measure(_ job: BlockJob, _ null: BenchDisk, _ disk: BenchDisk, _ fio: FioReference?) throws -> [BenchResult] {
        let kind = "requests/s"
        var onNull = BenchResult(name: "null device, \(job.name)", unit: kind, ours: [], reference: [])
        var onFile = BenchResult(name: "\(fio == nil ? "target" : "file"), \(job.name)", unit: kind, ours: [], reference: [])
        var events = BenchResult(
            name: "events a request, \(job.name)", unit: "events", ours: [], reference: [], moreIsBetter: false)
        for _ in 0..<runs {
            onNull.ours.append(try null.run(job, seconds: seconds).rate)
            let load = try disk.run(job, seconds: seconds)
            onFile.ours.append(load.rate)
            events.ours.append(load.eventsPerOperation)
            if let fio { onFile.reference.append(try fio.run(job).requestsPerSecond) }
        }
        return [onNull, onFile, events]
    }
}
