// Requests through one queue of a frontend, as fast as they go: always `depth` in flight, each for a random block.

import BlockFrontend
import LoopbackHypervisor

/// What a load did.
struct LoadFigures {
    var requestsPerSecond: Double
    /// Doorbells that the frontend rang and heard, for each request.
    var eventsPerRequest: Double
}

final class BlockLoad {
    private let frontend: BlockFrontend<LoopbackHypervisor>
    private var queue: BlockQueue
    private let spins: Bool
    private var random: UInt64 = 0x9E37_79B9_7F4A_7C15

    /// Takes the frontend's first queue. With `spins`, it never sleeps for an answer.
    init(_ frontend: BlockFrontend<LoopbackHypervisor>, spins: Bool) throws {
        self.frontend = frontend
        self.spins = spins
        queue = try frontend.takeQueue(0)
    }

    func close() { frontend.close() }

    /// Runs `job` for so long.
    func run(_ job: BlockJob, seconds: Double) throws(Failure) -> LoadFigures {
        let sectors = UInt64(job.blockSize / 512)
        let blocks = queue.properties.sectors / sectors
        guard blocks > 0 else { throw Failure("bench: the disk holds no block of \(job.blockSize) bytes") }
        let rungBefore = queue.statistics.notifications
        var heard: UInt64 = 0
        var (done, failed) = (0, 0)
        var free = Array((0..<UInt64(job.depth)).reversed())
        let start = ContinuousClock.now
        let end = start + .seconds(seconds)
        var isOver = false
        do {
            while true {
                while !isOver, let slot = free.popLast() {
                    _ = try queue.submit(
                        job.writes ? .write : .read, sector: nextRandom() % blocks * sectors,
                        bufferOffset: Int(slot) * job.blockSize, byteCount: job.blockSize, tag: slot)
                }
                queue.kick()
                let count = queue.reap { completion in
                    if completion.outcome != .okay { failed += 1 }
                    free.append(completion.tag)
                }
                done += count
                if isOver && free.count == job.depth { break }
                // The clock is looked at once in a while, not for each request.
                if count == 0 || done & 1023 < count { isOver = isOver || ContinuousClock.now >= end }
                if count == 0 && !spins {
                    try queue.wait(milliseconds: 1000)
                    heard += 1
                }
            }
        } catch { throw Failure("bench: \(job.name): \(error)") }
        guard failed == 0 else { throw Failure("bench: \(job.name): \(failed) requests failed") }
        let time = (ContinuousClock.now - start) / .seconds(1)
        let events = queue.statistics.notifications - rungBefore + heard
        return LoadFigures(
            requestsPerSecond: Double(done) / time, eventsPerRequest: done > 0 ? Double(events) / Double(done) : 0)
    }

    /// SplitMix64: cheap, so that it is not what is measured.
    private func nextRandom() -> UInt64 {
        random &+= 0x9E37_79B9_7F4A_7C15
        var z = random
        z = (z ^ z >> 30) &* 0xBF58_476D_1CE4_E5B9
        z = (z ^ z >> 27) &* 0x94D0_49BB_1331_11EB
        return z ^ z >> 31
    }
}
