// Memory that every device can reach, to copy through when it cannot reach a transfer's own. A pool is a budget that
// the queues of one device share; each queue has an area of its own in it, made when the queue first needs one, which
// belongs to the queue's thread and takes no lock.

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
    /// Areas that there will be; each is sure of its first arena.
    public let sharers: Int
    private let claimed = Atomic<Int>(0)
    /// Each area's count of slots in use.
    private let areas = Mutex<[AreaCount]>([])

    /// A pool of at most `byteCount` bytes, none of which are there yet.
    /// - Parameters:
    ///   - name: for errors.
    ///   - byteCount: bytes, rounded up to pages.
    ///   - sharers: queues that will have an area each. However much one of them takes, there is an arena left for each
    ///     of the others.
    public init(name: String, byteCount: Int, sharers: Int = 1) {
        self.name = name
        self.sharers = max(1, sharers)
        maximum = max(4096, min(byteCount, Int.max - 4095) + 4095 & ~4095)
    }

    /// Slots that there are in all areas.
    public var slotCount: Int { claimed.load(ordering: .relaxed) / Self.slotSize }
    /// Slots lent, in all areas.
    public var slotsInUse: Int { areas.withLock { $0.reduce(0) { $0 + $1.value } } }
    /// Areas with memory, one for each queue that has bounced.
    public var areaCount: Int { areas.withLock { $0.count } }
    /// Bytes by which an area grows; the largest transfer that each area is sure of.
    public var arenaBytes: Int { min(max(4096, maximum / sharers & ~4095), Self.largestArena) }

    /// Takes bytes of the budget; false if there are no more so many.
    /// - Parameter isFirst: whether they are an area's first, which the others leave to it.
    func claim(_ byteCount: Int, isFirst: Bool = true) -> Bool {
        let kept = isFirst ? 0 : arenaBytes * max(0, sharers - areaCount)
        var seen = claimed.load(ordering: .relaxed)
        // No sum of the two is compared: one that wraps would pass (attacks.md PM14).
        while byteCount > 0, byteCount <= maximum - kept, seen <= maximum - kept - byteCount {
            let result = claimed.compareExchange(expected: seen, desired: seen + byteCount, ordering: .relaxed)
            if result.exchanged { return true }
            seen = result.original
        }
        return false
    }

    /// Gives them back.
    func unclaim(_ byteCount: Int) { claimed.wrappingSubtract(byteCount, ordering: .relaxed) }

    func add(_ area: AreaCount) { areas.withLock { $0.append(area) } }
    func remove(_ area: AreaCount) { areas.withLock { areas in areas.removeAll { $0 === area } } }

    /// `bounce pool vbd-51712: 12 of 1024 slots in use, 2 areas`.
    public var description: String { "bounce pool \(name): \(slotsInUse) of \(slotCount) slots in use, \(areaCount) areas" }
}

/// How many slots an area has lent: written by its thread, read by any.
///
/// SAFETY: one atomic at one address from `init` to `deinit`. The area that stores to it directly has a reference to
/// this object.
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
