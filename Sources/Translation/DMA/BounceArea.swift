// One queue's part of a bounce pool. Slots of 2 KiB, given out in powers of two, the most recently used first: a slot
// that is still in the cache costs a third of one that is not. It grows by arenas out of the pool's budget and gives
// them back when they have not been needed for a while.
//
// Nothing stale leaves it: a slot is filled with the caller's own bytes whichever way the device will move data, so
// that a device that writes less than it was asked to shows the caller nothing but what was there before (attacks.md
// PM15).

import FrameMaps
import Glibc
import SharedMemory
import Synchronization

/// Memory lent by an area.
public struct BounceSlot: Sendable {
    let arena: Int32
    let order: Int32
    let start: Int
    /// The first byte that is meant, in the slot's memory.
    let offset: Int
}

/// An area's state and rules: a value without copies behind one pointer, so that the data path pays for no reference
/// counts.
///
/// SAFETY: `arenas` has room for `arenaRoom`, of which the first `arenaCount` are initialized; each keeps the region
/// that its `base` is of. A slot comes from `take`, lies whole in its arena, and is used until `giveBack`: until then
/// its arena is not all free and so does not go. `inUse` is `counter`'s, which this value keeps. Used by one thread.
@safe
struct BounceState: ~Copyable {
    private let pool: BouncePool
    private let frames: BusFrames
    private let mask: UInt64
    private let counter: AreaCount
    private let inUse: UnsafeMutablePointer<Atomic<Int>>

    /// SAFETY: `base` is the region's, which stands beside it.
    @safe
    private struct Arena: ~Copyable {
        var region: SharedRegion
        var base: UnsafeMutableRawPointer
        var frame: BusFrame
        var slots: UnitAllocator
    }
    private var arenas: UnsafeMutablePointer<Arena>
    private var arenaRoom = 1
    private let arenaLimit: Int
    private var arenaCount = 0
    private(set) var slotsInUse = 0
    /// Returns in a row that left the last arena unused.
    private var idleReturns = 0
    /// So many returns without a use of the last arena, and it goes.
    static let patience = 1024

    init(pool: BouncePool, frames: BusFrames, mask: UInt64) {
        self.pool = pool
        self.frames = frames
        self.mask = mask
        counter = AreaCount()
        unsafe inUse = counter.count
        arenaLimit = max(1, pool.maximum / pool.arenaBytes)
        unsafe arenas = .allocate(capacity: arenaRoom)
    }

    deinit {
        // SAFETY: each of the initialized ones is moved out once.
        for index in 0..<arenaCount {
            let arena = unsafe (arenas + index).move()
            frames.removeOwn(arena.frame, arena.region)
            pool.unclaim(arena.region.byteCount)
        }
        if arenaCount > 0 { pool.remove(counter) }
        unsafe arenas.deallocate()
    }

    /// Slots there are.
    var slotCount: Int {
        var count = 0
        for index in 0..<arenaCount { unsafe count += arenas[index].slots.capacity }
        return count
    }
    /// Bytes of the largest request that would succeed now, growing aside.
    var largestRequest: Int {
        var largest = 0
        for index in 0..<arenaCount { largest = unsafe max(largest, arenas[index].slots.largestOrder.map { 1 << $0 } ?? 0) }
        return largest * BouncePool.slotSize
    }

    /// Lends `byteCount` bytes. `alignMask`: bits of `address` (all ones from below) that the memory's address shall
    /// have in common with it.
    @inline(__always)
    mutating func take(_ byteCount: Int, keeping alignMask: UInt64 = 0, of address: UInt64 = 0) throws(DMAError) -> BounceSlot {
        let offset = Int(truncatingIfNeeded: address & alignMask)
        let slots = (offset &+ byteCount &+ (BouncePool.slotSize - 1)) / BouncePool.slotSize
        // A power of two of slots stands at a multiple of its size: aligned enough, and across no boundary as large.
        let order = UnitAllocator.order(max(slots, Int(truncatingIfNeeded: alignMask) / BouncePool.slotSize + 1))
        if arenaCount > 0, let slot = lend(0, order, offset) { return slot }
        return try takeElsewhere(order, offset)
    }

    private mutating func takeElsewhere(_ order: Int, _ offset: Int) throws(DMAError) -> BounceSlot {
        for index in 0..<arenaCount where index > 0 {
            if let slot = lend(index, order, offset) { return slot }
        }
        if grow(order), let slot = lend(arenaCount - 1, order, offset) { return slot }
        // Where all of it is this area's nobody else needs to be asked, which takes a lock.
        let all = pool.slotCount
        let used = all == slotCount ? slotsInUse : pool.slotsInUse
        throw .poolFull(name: pool.name, used: used, slots: all, largest: largestRequest)
    }

    @inline(__always)
    private mutating func lend(_ arena: Int, _ order: Int, _ offset: Int) -> BounceSlot? {
        guard let start = unsafe arenas[arena].slots.allocate(order: order) else { return nil }
        slotsInUse &+= 1 << order
        unsafe inUse.pointee.store(slotsInUse, ordering: .relaxed)
        if arena > 0 && arena == arenaCount &- 1 { idleReturns = 0 }
        return BounceSlot(
            arena: Int32(truncatingIfNeeded: arena), order: Int32(truncatingIfNeeded: order), start: start, offset: offset)
    }

    @inline(__always)
    mutating func giveBack(_ slot: BounceSlot) {
        let order = Int(slot.order)
        // What `take` lent, once: the ledger of the device's mappings sees to that.
        unsafe arenas[Int(slot.arena)].slots.releaseTaken(slot.start, order: order)
        slotsInUse &-= 1 << order
        unsafe inUse.pointee.store(slotsInUse, ordering: .relaxed)
        if arenaCount > 1 {
            idleReturns &+= 1
            if idleReturns > Self.patience { shrink() }
        }
    }

    /// Gives memory back that was added when the area grew and that nothing uses.
    mutating func shrink() {
        idleReturns = 0
        while arenaCount > 1, unsafe arenas[arenaCount - 1].slots.freeUnits == arenas[arenaCount - 1].slots.capacity {
            // SAFETY: the last one is initialized, no slot of it is lent, and it counts no more from here on.
            let last = unsafe (arenas + (arenaCount - 1)).move()
            arenaCount -= 1
            frames.removeOwn(last.frame, last.region)
            pool.unclaim(last.region.byteCount)
        }
    }

    /// Adds memory for a request of 1 << `order` slots.
    private mutating func grow(_ order: Int) -> Bool {
        guard arenaCount < arenaLimit else { return false }
        let bytes = pool.arenaBytes
        guard BouncePool.slotSize << order <= bytes, pool.claim(bytes, isFirst: arenaCount == 0) else { return false }
        do {
            let slots = try UnitAllocator(capacity: bytes / BouncePool.slotSize, of: "bounce slots", name: pool.name)
            let region = try SharedRegion(anonymous: bytes)
            guard let frame = frames.addOwn(region, mask: mask) else { throw DMAError.noMemory(byteCount: bytes) }
            if arenaCount == arenaRoom { makeRoom() }
            // SAFETY: there is room for one more, where nothing is.
            unsafe (arenas + arenaCount).initialize(
                to: Arena(region: region, base: region.unsafeBase, frame: frame, slots: slots))
        } catch {
            pool.unclaim(bytes)
            return false
        }
        if arenaCount == 0 { pool.add(counter) }
        arenaCount += 1
        return true
    }

    private mutating func makeRoom() {
        arenaRoom *= 2
        // SAFETY: the initialized ones move, and the old place has none left when it goes.
        let larger = UnsafeMutablePointer<Arena>.allocate(capacity: arenaRoom)
        unsafe larger.moveInitialize(from: arenas, count: arenaCount)
        unsafe arenas.deallocate()
        unsafe arenas = larger
    }

    /// Where the device finds it.
    @inline(__always)
    func address(_ slot: BounceSlot) -> BusAddress {
        let frame = unsafe arenas[Int(slot.arena)].frame.rawValue
        return BusAddress(rawValue: frame << frameShift &+ UInt64(slot.start &* BouncePool.slotSize &+ slot.offset))
    }

    /// Copies into the slot, or out of it, `byteCount` bytes at `offset` of what is meant, which is as long as `take`
    /// was told.
    @inline(__always)
    func copyIn(_ slot: BounceSlot, _ offset: Int, from memory: UnsafeRawPointer, _ byteCount: Int) {
        // SAFETY: in the slot by what `take` was told; the caller's page is no part of an arena.
        unsafe _ = memcpy(place(slot) + offset, memory, byteCount)
    }
    @inline(__always)
    func copyOut(_ slot: BounceSlot, _ offset: Int, to memory: UnsafeMutableRawPointer, _ byteCount: Int) {
        // SAFETY: as for `copyIn`.
        unsafe _ = memcpy(memory, place(slot) + offset, byteCount)
    }
    /// Clears what is lent beyond the bytes that are meant: an untrusted device sees nothing of earlier users.
    func clearAround(_ slot: BounceSlot, _ byteCount: Int) {
        // SAFETY: `take` rounded `offset` and `byteCount` together up to the slot's 2^order units.
        let start = unsafe place(slot) - slot.offset
        unsafe memset(start, 0, slot.offset)
        unsafe memset(start + slot.offset + byteCount, 0, BouncePool.slotSize << Int(slot.order) - slot.offset - byteCount)
    }

    @inline(__always)
    private func place(_ slot: BounceSlot) -> UnsafeMutableRawPointer {
        unsafe arenas[Int(slot.arena)].base + (slot.start &* BouncePool.slotSize &+ slot.offset)
    }
}

/// A queue's area. Belongs to one thread, as the queue's bus does.
@safe
public final class BounceArea: CustomStringConvertible {
    /// The budget that it is a part of.
    public let pool: BouncePool
    let state: OwnedState<BounceState>

    init(pool: BouncePool, frames: BusFrames, mask: UInt64) {
        self.pool = pool
        state = OwnedState(BounceState(pool: pool, frames: frames, mask: mask))
    }

    /// Slots lent.
    public var slotsInUse: Int { state.value.slotsInUse }
    /// Slots there are.
    public var slotCount: Int { state.value.slotCount }
    /// Bytes of the largest request that would succeed now, growing aside.
    public var largestRequest: Int { state.value.largestRequest }
    /// Gives memory back that was added when the area grew and that nothing uses.
    public func shrink() { state.value.shrink() }

    /// `area of bounce pool vbd-51712: 12 of 1024 slots in use, at most 65536 bytes more at once`.
    public var description: String {
        "area of bounce pool \(pool.name): \(slotsInUse) of \(slotCount) slots in use, at most \(largestRequest) bytes more at once"
    }
}
