// Memory that every device can reach, to copy through when it cannot reach a transfer's own. A pool is a budget that the queues of
// one device share; each queue has an area of its own in it, made when the queue first needs one, which belongs to the queue's
// thread and takes no lock.

import Synchronization

/// A device's pool: how many bytes there may be, and what its areas hold. Any thread.
public final class BouncePool: Sendable, CustomStringConvertible {
    /// Bytes in a slot.
    public static let slotSize = 2048
    /// Bytes by which an area grows, at most: the largest request there can ever be.
    public static let largestArena = 1 << 20
    /// For errors.
    public let name: String
    /// Bytes it may grow to.
    public let maximum: Int
    private let state = Mutex(State())

    private struct State {
        var claimed = 0
        /// Each area's count of slots in use, in its own cache line's worth of memory.
        var areas: [AreaCount] = []
    }

    /// A pool of at most `byteCount` bytes, none of which are there yet.
    public init(name: String, byteCount: Int) {
        self.name = name
        maximum = max(4096, (byteCount + 4095) & ~4095)
    }

    /// Slots that there are in all areas.
    public var slotCount: Int { state.withLock { $0.claimed } / Self.slotSize }
    /// Slots lent, in all areas.
    public var slotsInUse: Int { state.withLock { $0.areas.reduce(0) { $0 + $1.value } } }
    /// Areas with memory, one for each queue that has bounced.
    public var areaCount: Int { state.withLock { $0.areas.count } }
    /// Bytes by which an area grows.
    var arenaBytes: Int { min(maximum, Self.largestArena) }

    /// Takes bytes of the budget; false if there are no more so many.
    func claim(_ byteCount: Int) -> Bool {
        state.withLock { state in
            // No sum of the two: it could not wrap here, but the check stays right whatever the numbers are (attacks.md PM14).
            guard byteCount > 0, byteCount <= maximum, state.claimed <= maximum - byteCount else { return false }
            state.claimed += byteCount
            return true
        }
    }

    /// Gives them back.
    func unclaim(_ byteCount: Int) { state.withLock { $0.claimed -= byteCount } }

    func add(_ area: AreaCount) { state.withLock { $0.areas.append(area) } }
    func remove(_ area: AreaCount) { state.withLock { state in state.areas.removeAll { $0 === area } } }

    /// `bounce pool vbd-51712: 12 of 1024 slots in use, 2 areas`.
    public var description: String { "bounce pool \(name): \(slotsInUse) of \(slotCount) slots in use, \(areaCount) areas" }
}

/// How many slots an area has lent: written by its thread, read by any.
@safe
final class AreaCount: @unchecked Sendable {
    /// Stored to by the area directly; this object outlives it.
    let count: UnsafeMutablePointer<Atomic<Int>>
    init() {
        unsafe count = .allocate(capacity: 1)
        unsafe count.initialize(to: Atomic(0))
    }
    deinit {
        unsafe count.deinitialize(count: 1)
        unsafe count.deallocate()
    }
    var value: Int { unsafe count.pointee.load(ordering: .relaxed) }
}
