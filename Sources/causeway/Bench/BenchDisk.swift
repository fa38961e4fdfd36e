// A disk under measurement: its frontend in this process, and one queue of it.

import BlockFrontend
import LoopbackHypervisor

final class BenchDisk {
    private let frontend: BlockFrontend<LoopbackHypervisor>
    private var queue: BlockQueue
    private let polls: Bool

    /// Takes the frontend's first queue. With `polls`, it never sleeps for an answer.
    init(_ frontend: BlockFrontend<LoopbackHypervisor>, polls: Bool) throws {
        self.frontend = frontend
        self.polls = polls
        queue = try frontend.takeQueue(0)
    }

    func close() { frontend.close() }

    /// Runs `job` for so long; every request must succeed.
    func run(_ job: BlockJob, seconds: Double) throws(Failure) -> BlockMeasurement {
        let load = BlockLoad(
            job.writes ? .write : .read, blockSize: job.blockSize, depth: job.depth, milliseconds: Int(seconds * 1000),
            polls: polls)
        let measurement: BlockMeasurement
        do { measurement = try queue.measure(load) } catch { throw Failure("bench: \(job.name): \(error)") }
        guard measurement.failures == 0 else {
            throw Failure("bench: \(job.name): \(measurement.failures) of \(measurement.operations) requests failed")
        }
        return measurement
    }
}
