// fio as the reference: the same job that the pair does, on the same file, without the pair.

import CommandSupport
import FoundationEssentials
import LinuxSystem

/// One measured job.
package struct BlockJob: Hashable {
    /// Bytes of a request.
    var blockSize: Int
    /// Requests in flight.
    var depth: Int
    /// Whether it writes; else it reads. Offsets are random.
    var writes: Bool

    /// A job of these.
    package init(blockSize: Int, depth: Int, writes: Bool) {
        self.blockSize = blockSize
        self.depth = depth
        self.writes = writes
    }

    /// `read 4 KiB, depth 32`.
    var name: String { "\(writes ? "write" : "read") \(blockSize / 1024) KiB, depth \(depth)" }
}

/// What a job did.
struct BlockFigures: Hashable {
    var requestsPerSecond: Double
    var bytesPerSecond: Double
}

/// Runs fio on a file or device.
struct FioReference {
    /// The file, read or written in place.
    let path: String
    /// Seconds of one run.
    let seconds: Double
    /// Whether the page cache is bypassed.
    var direct = false
    let engine = "io_uring"

    /// One run of `job`.
    func run(_ job: BlockJob) throws(Failure) -> BlockFigures {
        let output = try Capture.run([
            "fio", "--name=reference", "--ioengine=\(engine)", "--filename=\(path)",
            "--rw=\(job.writes ? "randwrite" : "randread")",
            "--bs=\(job.blockSize)", "--iodepth=\(job.depth)", "--runtime=\(Int(seconds * 1000))ms", "--time_based",
            "--randrepeat=0",
            "--norandommap", "--gtod_reduce=1", "--output-format=json", "--direct=\(direct ? 1 : 0)",
            // fio drops the file's cached pages before it begins; we do not, so it must not either.
            "--invalidate=0",
        ])
        return try Self.parse(output, job)
    }

    /// Reads fio's report.
    static func parse(_ output: String, _ job: BlockJob) throws(Failure) -> BlockFigures {
        struct Report: Decodable {
            struct Job: Decodable {
                let read: Direction
                let write: Direction
                let error: Int
            }
            struct Direction: Decodable {
                let iops: Double
                let bw_bytes: Double
            }
            let jobs: [Job]
        }
        // Warnings may precede the object.
        guard let start = output.firstIndex(of: "{"),
            let report = try? JSONDecoder().decode(Report.self, from: Data(output[start...].utf8)),
            let result = report.jobs.first
        else { throw Failure("bench: fio's report cannot be read: \(output.prefix(200))") }
        guard result.error == 0 else {
            throw Failure("bench: fio failed: \(Errno(Int32(truncatingIfNeeded: result.error)))")
        }
        let side = job.writes ? result.write : result.read
        return BlockFigures(requestsPerSecond: side.iops, bytesPerSecond: side.bw_bytes)
    }
}
