// Drives one queue with a steady load and counts: what `causeway bench block` and the tests of event hold-off measure.

import LinuxSystem

/// A steady load on one queue.
public struct BlockLoad: Sendable {
    /// Reads or writes.
    public var command: BlockCommand
    /// Bytes of an operation.
    public var blockSize: Int
    /// Operations kept in flight.
    public var depth: Int
    /// How long, in milliseconds.
    public var milliseconds: Int
    /// Spins for completions instead of sleeping.
    public var polls: Bool
    /// Microseconds to spin before each sleep.
    public var spinMicroseconds: UInt32 = 0

    /// A load at random places of the disk.
    public init(_ command: BlockCommand, blockSize: Int, depth: Int, milliseconds: Int, polls: Bool) {
        self.command = command
        self.blockSize = blockSize
        self.depth = depth
        self.milliseconds = milliseconds
        self.polls = polls
    }
}

/// What a load came to.
public struct BlockMeasurement: Sendable {
    /// Operations ended.
    public var operations: UInt64 = 0
    /// Of these, those that did not succeed.
    public var failures: UInt64 = 0
    /// Wall time in seconds.
    public var seconds = 0.0
    /// Notifications sent to the backend.
    public var notificationsSent: UInt64 = 0
    /// Times this side slept.
    public var sleeps: UInt64 = 0

    /// Operations a second.
    public var rate: Double { seconds > 0 ? Double(operations) / seconds : 0 }
    /// Notifications sent and wake-ups taken, for each operation.
    public var eventsPerOperation: Double {
        operations > 0 ? Double(notificationsSent + sleeps) / Double(operations) : 0
    }
}

extension BlockQueue {
    /// Runs `load` on an idle queue whose buffer has room for it.
    public mutating func measure(_ load: BlockLoad) throws(BlockFrontendError) -> BlockMeasurement {
        guard load.depth <= depth, load.depth * load.blockSize <= buffer.byteCount else {
            throw .badRequest("\(load.depth) operations of \(load.blockSize) bytes: more than this queue takes")
        }
        let places = min(properties.sectors * 512 / UInt64(load.blockSize), 1 << 32)
        guard places > 0 else { throw .badRequest("the disk is smaller than one operation") }
        let sectorsEach = UInt64(load.blockSize / 512)
        var random = SplitMix(state: 0x9E37_79B9_7F4A_7C15)
        var measurement = BlockMeasurement()
        let notificationsBefore = statistics.notifications
        let start = time.nanoseconds
        let end = start + UInt64(load.milliseconds) * 1_000_000
        for slot in 0..<load.depth {
            _ = try submit(
                load.command, sector: random.next(below: places) * sectorsEach, bufferOffset: slot * load.blockSize,
                byteCount: load.blockSize, tag: UInt64(slot))
        }
        kick()
        var now = start
        var refill: [UInt64] = []
        refill.reserveCapacity(load.depth)
        var turns = 0
        while now < end || inFlight > 0 {
            refill.removeAll(keepingCapacity: true)
            var failures: UInt64 = 0
            let count = reap { completion in
                if completion.outcome != .okay { failures += 1 }
                refill.append(completion.tag)
            }
            measurement.operations += UInt64(count)
            measurement.failures += failures
            if let failure { throw failure }
            if count > 0 {
                if now < end {
                    for slot in refill {
                        _ = try submit(
                            load.command, sector: random.next(below: places) * sectorsEach,
                            bufferOffset: Int(slot) * load.blockSize, byteCount: load.blockSize, tag: slot)
                    }
                    kick()
                }
            } else if load.polls {
                // As a reactor spins: the peer may be on the same processor.
                if turns & 127 == 127 { yieldProcessor() }
            } else {
                do throws(Errno) {
                    if try wait(milliseconds: 1000, spinning: load.spinMicroseconds) { measurement.sleeps += 1 }
                } catch { throw .negotiation("poll: \(error)") }
            }
            // The clock costs as much as a request on some machines.
            turns &+= 1
            if turns & 15 == 0 || !load.polls { now = time.nanoseconds }
        }
        measurement.seconds = Double(time.nanoseconds - start) / 1e9
        measurement.notificationsSent = statistics.notifications - notificationsBefore
        return measurement
    }
}

/// A small fast generator (Steele, Lea, Flood: SplitMix64), the same run after run.
struct SplitMix {
    var state: UInt64

    mutating func next() -> UInt64 {
        state &+= 0x9E37_79B9_7F4A_7C15
        var z = state
        z = (z ^ (z >> 30)) &* 0xBF58_476D_1CE4_E5B9
        z = (z ^ (z >> 27)) &* 0x94D0_49BB_1331_11EB
        return z ^ (z >> 31)
    }

    /// A number below `limit` (at most 2^32), evenly enough for a load.
    mutating func next(below limit: UInt64) -> UInt64 { (next() >> 32) &* limit >> 32 }
}
