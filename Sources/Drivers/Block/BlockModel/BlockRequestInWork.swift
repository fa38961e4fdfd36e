// A queue's requests as whoever looks on sees them.

import BlockDevices
import DeviceControl

/// A request in work, for whoever looks on.
public struct BlockRequestInWork: Sendable {
    /// Where its transport keeps more.
    public let slot: RequestSlot
    /// What it asks for; offsets and lengths in bytes.
    public let work: BlockWork
    /// Where it is, in a word or two.
    public let stage: String
    /// When it was taken, in nanoseconds of the queue's clock; some microseconds early on a busy queue.
    public let begun: UInt64

    /// As given.
    init(slot: RequestSlot, work: BlockWork, stage: String, begun: UInt64) {
        self.slot = slot
        self.work = work
        self.stage = stage
        self.begun = begun
    }

    /// In words: its operation, where on the disk, how far it is, and for how long it has been in work.
    /// - Parameter now: by the queue's clock, in nanoseconds.
    public func fields(_ now: UInt64) -> [RingReport.Field] {
        let (operation, offset, byteCount) = work.words
        return [
            .init("operation", operation), .init("offset-bytes", offset), .init("bytes", byteCount),
            .init("age-microseconds", (now &- begun) / 1000), .init("stage", stage),
        ]
    }
}

extension BlockWork {
    /// Its operation, where on the disk, and how much of it.
    fileprivate var words: (operation: String, offset: UInt64, byteCount: UInt64) {
        switch operation {
        case .read(let offset): ("read", offset, byteCount)
        case .write(let offset, let isDurable): (isDurable ? "durable write" : "write", offset, byteCount)
        case .flush: ("flush", 0, 0)
        case .discard(let offset, let count, let isSecure): (isSecure ? "secure discard" : "discard", offset, count)
        case .writeZeroes(let offset, let count, _): ("write zeroes", offset, count)
        }
    }
}

extension BlockModel where Transport: ~Copyable {
    /// The requests in work, the oldest first.
    public var inWorkNow: [BlockRequestInWork] {
        requests.inWork.sorted { $0.begun < $1.begun }
    }
}

extension RequestTable {
    fileprivate var inWork: [BlockRequestInWork] {
        (0..<Int32(capacity)).compactMap { index in
            let slot = RequestSlot(index: index)
            let state = self[slot]
            return state.stage.words.map {
                BlockRequestInWork(slot: slot, work: state.work, stage: $0, begun: state.begun.nanoseconds)
            }
        }
    }
}

extension RequestStage {
    /// In a word or two; nil: nothing is there.
    fileprivate var words: String? {
        switch self {
        case .vacant: nil
        case .waiting: "waits for memory"
        case .draining: "waits for those before"
        case .flushBefore: "flush before it"
        case .main: "at the disk"
        case .flushAfter: "flush after it"
        }
    }
}
