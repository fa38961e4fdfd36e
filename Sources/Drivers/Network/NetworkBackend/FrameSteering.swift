// Frames that one thread's device queue gave and another thread's queue is to have: copied, gathered for a turn, and
// posted as one job.

import SharedMemory
import Synchronization

/// A frame on its way to a queue of another thread.
struct SteeredFrame: Sendable {
    let frame: GuestReceive.Frame
    let bytes: [UInt8]
    /// The queue's number.
    let target: Int
}

/// How much may be on its way to one group. A thread that is slow, or whose frontend keeps it busy, costs frames and no
/// memory.
final class SteeringBudget: Sendable {
    /// Bytes on their way at most; a frame counts for no less than `leastCharge`: 256 small frames, which fill a ring,
    /// or 64 of the largest.
    static let limit = 4 << 20
    static let leastCharge = 16 << 10

    private let left = Atomic<Int>(limit)

    static func charge(_ byteCount: Int) -> Int { max(byteCount, leastCharge) }

    /// Takes what a frame counts for; false if there is not so much left.
    func take(_ byteCount: Int) -> Bool {
        let charge = Self.charge(byteCount)
        // Frames' bytes are passed from thread to thread by the reactor's inbox; here is only a count.
        if left.subtract(charge, ordering: .relaxed).newValue >= 0 { return true }
        left.add(charge, ordering: .relaxed)
        return false
    }

    /// These frames are there.
    func give(_ frames: [SteeredFrame]) {
        left.add(frames.reduce(0) { $0 + Self.charge($1.bytes.count) }, ordering: .relaxed)
    }
}

/// The other groups of an interface, as one of them knows them.
struct GroupPeers {
    private struct Peer {
        /// A group keeps no other alive: the engine keeps them all.
        weak var group: InterfaceQueueGroup?
        let budget: SteeringBudget
        /// For this one, since the last turn.
        var frames: [SteeredFrame] = []
    }
    private var peers: [Peer]
    private var hasFrames = false

    /// All groups of the interface, by number.
    init(_ groups: [InterfaceQueueGroup]) { peers = groups.map { Peer(group: $0, budget: $0.budget) } }

    /// Puts a frame on its way to queue `target` of group `number`, soon; false if too much is on its way there.
    mutating func send(_ frame: GuestReceive.Frame, _ region: SharedRegion, _ offset: Int, to target: Int, of number: Int) -> Bool {
        guard peers[number].budget.take(frame.byteCount) else { return false }
        peers[number].frames.append(
            SteeredFrame(frame: frame, bytes: region.bytes(at: offset, count: frame.byteCount), target: target))
        hasFrames = true
        return true
    }

    /// Posts what has gathered.
    @inline(__always)
    mutating func flush() { if hasFrames { post() } }

    private mutating func post() {
        hasFrames = false
        for number in peers.indices where !peers[number].frames.isEmpty {
            let frames = peers[number].frames
            peers[number].frames = []
            peers[number].group?.run { $0.take(frames) }
        }
    }

    /// Runs `job` on the thread of each group of `numbers`.
    func tell(_ numbers: some Sequence<Int>, _ job: @escaping @Sendable (InterfaceQueueGroup) -> Void) {
        for number in numbers { peers[number].group?.run(job) }
    }
}
