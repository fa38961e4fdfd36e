// A disk under measurement: its frontend in this process, and one queue of it.

import BlockFrontend
import CommandSupport
import Loopback
import Reactor

final class BenchDisk {
    private let frontend: BlockFrontend<LoopbackHypervisor>
    private var queue: BlockQueue
    private let policy: PollingPolicy

    /// Takes the frontend's first queue; it waits for answers as a backend's reactor waits for requests.
    init(_ frontend: BlockFrontend<LoopbackHypervisor>, policy: PollingPolicy) throws {
        self.frontend = frontend
        self.policy = policy
        queue = try frontend.takeQueue(0)
    }

    func close() { frontend.close() }

    /// Runs `job` for so long; every request must succeed.
    func run(_ job: BlockJob, seconds: Double) throws(Failure) -> BlockMeasurement {
        var load = BlockLoad(
            job.writes ? .write : .read, blockSize: job.blockSize, depth: job.depth, milliseconds: Int(seconds * 1000),
            polls: policy == .always)
        if case .adaptive(let microseconds) = policy { load.spinMicroseconds = microseconds }
        let measurement: BlockMeasurement
        do { measurement = try queue.measure(load) } catch { throw Failure("bench: \(job.name): \(error)") }
        guard measurement.failures == 0 else {
            throw Failure("bench: \(job.name): \(measurement.failures) of \(measurement.operations) requests failed")
        }
        return measurement
    }
}
