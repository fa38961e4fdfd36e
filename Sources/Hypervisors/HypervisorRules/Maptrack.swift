// A domain's mappings of its peers' grants, by handle. A handle carries the number of times that its slot was used
// before, so that a handle unmapped twice does not meet the slot's next holder.

import XenTypes

/// One mapping. Wide fields first: a slot is 40 bytes, and all that a request for 32 pages touches stays in the cache.
struct TrackedMapping {
    let connection: ConnectionID
    let granterLife: DomainLife
    let run: RunID
    let reference: GrantReference
    private let pageNumber: UInt32
    let granter: DomainID
    let isWriting: Bool
    /// Mapped by frame number: there is no grant behind it (`HypervisorCore.mapForeign`).
    let isForeign: Bool

    /// The page's place in the run.
    var page: Int { Int(pageNumber) }

    init(
        connection: ConnectionID, granter: DomainState, reference: GrantReference, run: RunID, page: Int, isWriting: Bool,
        isForeign: Bool = false
    ) {
        self.connection = connection
        self.granter = granter.id
        granterLife = granter.life
        self.reference = reference
        self.run = run
        pageNumber = UInt32(page)
        self.isWriting = isWriting
        self.isForeign = isForeign
    }
}

struct Maptrack {
    static let slotBits: UInt32 = 19
    private var slots: [(mapping: TrackedMapping?, generation: UInt32)] = []
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
        slots.append((mapping, 0))
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
