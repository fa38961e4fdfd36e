// Memory that every device can reach, to copy through when it cannot reach a transfer's own. Slots of 2 KiB, given out in powers of two, the most
// recently used first: a slot that is still in the cache costs a third of one that is not. Belongs to one thread, as a queue's bus does.
//
// Nothing stale leaves it: a slot is filled with the caller's own bytes whichever way the device will move data, so that a device that
// writes less than it was asked to shows the caller nothing but what was there before (CVE-2022-0854).

import FrameMaps
import Glibc
import SharedMemory

/// Memory lent by a pool.
public struct BounceSlot: Sendable {
    let arena: Int
    let start: Int
    let order: Int
    /// The first byte that is meant, in the slot's memory.
    let offset: Int
}

@safe
public final class BouncePool: CustomStringConvertible {
    /// Bytes in a slot.
    public static let slotSize = 2048
    /// For errors.
    public let name: String
    /// Bytes it may grow to.
    public let maximum: Int
    /// Slots lent.
    public private(set) var slotsInUse = 0

    private struct Arena {
        var region: SharedRegion
        var frame: BusFrame
        var slots: UnitAllocator
    }
    private var arenas: [Arena] = []
    private let arenaBytes: Int
    private let frames: BusFrames
    private let mask: UInt64

    /// nil if there is no memory for it below `mask`.
    init?(name: String, byteCount: Int, maximum: Int, frames: BusFrames, mask: UInt64) {
        self.name = name
        arenaBytes = max(SharedRegion.pageSize, (byteCount + SharedRegion.pageSize - 1) & ~(SharedRegion.pageSize - 1))
        self.maximum = max(maximum, arenaBytes)
        self.frames = frames
        self.mask = mask
        if !grow() { return nil }
    }

    deinit {
        for arena in arenas { frames.removeOwn(arena.frame, arena.region) }
    }

    /// Slots there are.
    public var slotCount: Int { arenas.reduce(0) { $0 + $1.slots.capacity } }
    /// Bytes of the largest request that would succeed now, growing aside.
    public var largestRequest: Int {
        arenas.reduce(0) { max($0, $1.slots.largestOrder.map { 1 << $0 } ?? 0) } * Self.slotSize
    }

    /// Lends `byteCount` bytes. `alignMask`: bits of `address` (all ones from below) that the memory's address shall have in common with it.
    func take(_ byteCount: Int, keeping alignMask: UInt64 = 0, of address: UInt64 = 0) throws(DMAError) -> BounceSlot {
        let offset = Int(truncatingIfNeeded: address & alignMask)
        let slots = (offset + byteCount + Self.slotSize - 1) / Self.slotSize
        // A power of two of slots stands at a multiple of its size: aligned enough, and across no boundary as large.
        let order = UnitAllocator.order(max(slots, Int(truncatingIfNeeded: alignMask) / Self.slotSize + 1))
        for index in arenas.indices {
            if let slot = lend(index, order, offset) { return slot }
        }
        if grow(), let slot = lend(arenas.count - 1, order, offset) { return slot }
        throw .poolFull(name: name, used: slotsInUse, slots: slotCount, largest: largestRequest)
    }

    @inline(__always)
    private func lend(_ arena: Int, _ order: Int, _ offset: Int) -> BounceSlot? {
        guard let start = arenas[arena].slots.allocate(order: order) else { return nil }
        slotsInUse += 1 << order
        return BounceSlot(arena: arena, start: start, order: order, offset: offset)
    }

    func giveBack(_ slot: BounceSlot) {
        if arenas[slot.arena].slots.release(slot.start, order: slot.order) { slotsInUse -= 1 << slot.order }
    }

    /// Gives memory back that was added when the pool grew and that nothing uses.
    public func shrink() {
        while arenas.count > 1, let last = arenas.last, last.slots.freeUnits == last.slots.capacity {
            frames.removeOwn(last.frame, last.region)
            arenas.removeLast()
        }
    }

    private func grow() -> Bool {
        guard (arenas.count + 1) * arenaBytes <= maximum else { return false }
        guard let region = try? SharedRegion(anonymous: arenaBytes), let frame = frames.addOwn(region, mask: mask)
        else { return false }
        arenas.append(Arena(region: region, frame: frame, slots: UnitAllocator(capacity: arenaBytes / Self.slotSize)))
        return true
    }

    /// Where the device finds it.
    func address(_ slot: BounceSlot) -> BusAddress {
        BusAddress(
            rawValue: arenas[slot.arena].frame.rawValue << frameShift + UInt64(slot.start * Self.slotSize + slot.offset)
        )
    }

    /// Copies into the slot, or out of it, `byteCount` bytes at `offset` of what is meant.
    @inline(__always)
    func copyIn(_ slot: BounceSlot, _ offset: Int, from memory: UnsafeRawPointer, _ byteCount: Int) {
        unsafe _ = memcpy(place(slot) + offset, memory, byteCount)
    }
    @inline(__always)
    func copyOut(_ slot: BounceSlot, _ offset: Int, to memory: UnsafeMutableRawPointer, _ byteCount: Int) {
        unsafe _ = memcpy(memory, place(slot) + offset, byteCount)
    }
    /// Clears what is lent beyond the bytes that are meant: an untrusted device sees nothing of earlier users.
    func clearAround(_ slot: BounceSlot, _ byteCount: Int) {
        let start = unsafe place(slot) - slot.offset
        unsafe memset(start, 0, slot.offset)
        unsafe memset(start + slot.offset + byteCount, 0, Self.slotSize << slot.order - slot.offset - byteCount)
    }

    @inline(__always)
    private func place(_ slot: BounceSlot) -> UnsafeMutableRawPointer {
        unsafe arenas[slot.arena].region.unsafeBase + (slot.start * Self.slotSize + slot.offset)
    }

    /// `bounce pool vbd-51712: 12 of 1024 slots in use, at most 65536 bytes more at once`.
    public var description: String {
        "bounce pool \(name): \(slotsInUse) of \(slotCount) slots in use, at most \(largestRequest) bytes more at once"
    }
}
