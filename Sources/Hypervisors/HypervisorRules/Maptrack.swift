// A domain's mappings of its peers' grants, by handle. A handle carries the number of times that its slot was used
// before, so that a handle unmapped twice does not meet the slot's next holder.

import XenTypes

struct TrackedMapping {
    let connection: ConnectionID
    let granter: DomainID
    let granterLife: DomainLife
    let reference: GrantReference
    let run: RunID
    /// The page's place in the run.
    let page: Int
    let isWriting: Bool
    /// Mapped by frame number: there is no grant behind it (`HypervisorCore.mapForeign`).
    var isForeign = false
}

struct Maptrack {
    static let slotBits: UInt32 = 19
    private var slots: [(generation: UInt32, mapping: TrackedMapping?)] = []
    private var free: [UInt32] = []
    private(set) var count = 0
    let limit: Int

    init(limit: Int) { self.limit = min(limit, 1 << Int(Self.slotBits)) }

    var isFull: Bool { count >= limit }
    var slotCount: Int { slots.count }

    mutating func insert(_ mapping: TrackedMapping) -> UInt32 {
        count += 1
        if let slot = free.popLast() {
            slots[Int(slot)].mapping = mapping
            return slots[Int(slot)].generation << Self.slotBits | slot
        }
        slots.append((0, mapping))
        return UInt32(slots.count - 1)
    }

    func find(_ handle: UInt32) -> TrackedMapping? {
        let slot = Int(handle & ((1 << Self.slotBits) - 1))
        guard slot < slots.count, slots[slot].generation == handle >> Self.slotBits else { return nil }
        return slots[slot].mapping
    }

    func mapping(slot: Int) -> TrackedMapping? { slot < slots.count ? slots[slot].mapping : nil }

    mutating func remove(slot: Int) {
        slots[slot].mapping = nil
        slots[slot].generation = (slots[slot].generation &+ 1) & (UInt32.max >> Self.slotBits)
        free.append(UInt32(slot))
        count -= 1
    }

    mutating func remove(_ handle: UInt32) { remove(slot: Int(handle & ((1 << Self.slotBits) - 1))) }
}
