// What a device has taken from a packed ring, in the memory that a vhost-user front end keeps for it. Used entries are
// written over those of other chains that are in work, so what was taken is copied here as a whole (vhost-user.rst,
// "Inflight I/O tracking": DescStatePacked). Entries that no chain has are a list.
//
// The order of stores is the whole protocol; each numbered one is one word, so it has happened or has not: taking
// the chain's descriptors into entries of the list's beginning, its length, its counter and its flag, then
//               (1) both heads of the list = what is left of it
//   publishing  the entries of all that were answered are linked before the list, then (2) its head = the first of
//   them,
//               and (3) the position = the ring's new one; (4) the ring's flags, which show it; then (5) the chains'
//               flags = 0, (6) the old head = the head, (7) the old position = the position
// PackedInflightRecovery.swift reads it the other way round.

import SharedMemory
import VirtioWire

/// Where things lie in one packed ring's part of the in-flight memory, in bytes from its start; the host's order.
public enum PackedInflightLayout {
    /// As a split ring's.
    @inlinable public static var version: Int { InflightLayout.version }
    /// As a split ring's.
    @inlinable public static var size: Int { InflightLayout.size }
    /// The list's first entry, and in the word's upper half the one that was before what is being published.
    @inlinable public static var heads: Int { 12 }
    /// A word of eight bytes: the used position's offset, the old one's, then the wrap counter of each in a byte.
    @inlinable public static var positions: Int { 16 }
    /// The first entry.
    @inlinable public static var entries: Int { 32 }
    /// Bytes of an entry.
    @inlinable public static var entrySize: Int { 32 }
    /// In a chain's first entry: whether it is taken and not answered. A byte, with padding up to the link.
    @inlinable public static var flag: Int { 0 }
    /// In an entry: the next one of the chain, or of the list. The last one's is the ring's size.
    @inlinable public static var link: Int { 2 }
    /// In a chain's first entry: its last one.
    @inlinable public static var last: Int { 4 }
    /// In a chain's first entry: how many it has.
    @inlinable public static var count: Int { 6 }
    /// In a chain's first entry: when it was taken.
    @inlinable public static var counter: Int { 8 }
    /// In an entry: the descriptor's name, flags, length and address.
    @inlinable public static var id: Int { 16 }
    /// See `id`.
    @inlinable public static var flags: Int { 18 }
    /// See `id`.
    @inlinable public static var length: Int { 20 }
    /// See `id`.
    @inlinable public static var address: Int { 24 }

    /// Bytes of a ring's part: whole cache lines.
    @inlinable public static func byteCount(_ ringSize: Int) -> Int { (entries + entrySize * ringSize + 63) & ~63 }

    /// Both positions as their word.
    @inlinable
    static func word(_ used: PackedPosition, old: PackedPosition) -> UInt64 {
        UInt64(used.offset) | UInt64(old.offset) << 16 | (used.wrap ? 1 << 32 : 0) | (old.wrap ? 1 << 40 : 0)
    }
}

/// What a packed ring tells of each chain. Owned by the ring.
public protocol PackedCrashLedger {
    /// A descriptor of the chain that is being taken, its `step`th.
    mutating func note(_ descriptor: PackedDescriptor, step: UInt16)
    /// The chain whose descriptors were noted last is about to be worked on.
    mutating func willTake(_ ticket: ChainTicket)
    /// It is among those that are shown next.
    mutating func willAnswer(_ ticket: ChainTicket)
    /// They are about to be shown; the ring's used position will be `used`.
    mutating func willPublish(_ used: PackedPosition)
    /// They are shown.
    mutating func didPublish()
}

extension NoLedger: PackedCrashLedger {
    /// See `PackedCrashLedger`.
    @inlinable @inline(__always) public mutating func note(_ descriptor: PackedDescriptor, step: UInt16) {}
    /// See `PackedCrashLedger`.
    @inlinable @inline(__always) public mutating func willTake(_ ticket: ChainTicket) {}
    /// See `PackedCrashLedger`.
    @inlinable @inline(__always) public mutating func willAnswer(_ ticket: ChainTicket) {}
    /// See `PackedCrashLedger`.
    @inlinable @inline(__always) public mutating func willPublish(_ used: PackedPosition) {}
    /// See `PackedCrashLedger`.
    @inlinable @inline(__always) public mutating func didPublish() {}
}

/// The in-flight memory of one packed ring. Owned by the ring. What it decides on is its own: the front end may change
/// the memory meanwhile, and harms its successor only.
public struct PackedInflightLedger: PackedCrashLedger {
    @usableFromInline let area: RingArea
    @usableFromInline var counter: UInt64
    /// What follows each entry, in its chain or in the list.
    @usableFromInline var links: [UInt16]
    /// Of a chain's first entry: its last one.
    @usableFromInline var lasts: [UInt16]
    /// The first entries of chains in work, by the driver's names, which may be any numbers.
    @usableFromInline var firsts: [UInt16]
    /// The list's first entry.
    @usableFromInline var free: UInt16
    /// The entry that was noted last.
    @usableFromInline var cursor: UInt16 = 0
    /// What was shown up to, and what is being shown.
    @usableFromInline var settled: PackedPosition
    @usableFromInline var position: PackedPosition
    /// The first entries of chains that are put and not shown.
    @usableFromInline var answered: [UInt16] = []
    @usableFromInline var freed: UInt16 = 0
    /// For tests: called after each store.
    @usableFromInline var observer: (() -> Void)?

    /// Goes on with memory that `PackedInflightRecovery` has read, and so begun or settled.
    public init(_ recovery: PackedInflightRecovery) {
        area = recovery.area
        counter = recovery.nextCounter
        links = recovery.links
        free = recovery.free
        settled = recovery.used
        position = recovery.used
        lasts = Array(repeating: 0, count: recovery.size)
        firsts = Array(repeating: 0, count: 1 << 16)
        for chain in recovery.left {
            firsts[Int(chain.id)] = chain.first
            lasts[Int(chain.first)] = chain.last
        }
        answered.reserveCapacity(recovery.size)
    }

    init(_ recovery: PackedInflightRecovery, observer: @escaping () -> Void) {
        self.init(recovery)
        self.observer = observer
    }

    @inlinable @inline(__always)
    func place(_ entry: UInt16) -> Int {
        area.offset &+ PackedInflightLayout.entries &+ PackedInflightLayout.entrySize &* Int(entry)
    }

    @inlinable @inline(__always)
    func store(_ value: UInt16, at offset: Int) {
        area.region.storeReleasing16(value, at: offset)
        if let observer { observer() }
    }

    @inlinable @inline(__always)
    func store(heads: UInt16, old: UInt16) {
        area.region.storeReleasing(UInt32(heads) | UInt32(old) << 16, at: area.offset &+ PackedInflightLayout.heads)
        if let observer { observer() }
    }

    @inlinable @inline(__always)
    func storePositions() {
        area.region.store(PackedInflightLayout.word(position, old: settled), at: area.offset &+ PackedInflightLayout.positions)
        if let observer { observer() }
    }

    /// See `PackedCrashLedger`.
    @inlinable @inline(__always)
    public mutating func note(_ descriptor: PackedDescriptor, step: UInt16) {
        // Never beyond the list: no more entries are in work than the ring has.
        cursor = step == 0 ? free : links[Int(cursor)]
        let place = place(cursor)
        area.region.store(descriptor.id, at: place &+ PackedInflightLayout.id)
        area.region.store(descriptor.flags.rawValue, at: place &+ PackedInflightLayout.flags)
        area.region.store(descriptor.byteCount, at: place &+ PackedInflightLayout.length)
        area.region.store(descriptor.address, at: place &+ PackedInflightLayout.address)
        if let observer { observer() }
    }

    /// See `PackedCrashLedger`.
    @inlinable
    public mutating func willTake(_ ticket: ChainTicket) {
        let first = free
        let place = place(first)
        store(cursor, at: place &+ PackedInflightLayout.last)
        store(ticket.entries, at: place &+ PackedInflightLayout.count)
        area.region.store(counter, at: place &+ PackedInflightLayout.counter)
        counter &+= 1
        store(1, at: place &+ PackedInflightLayout.flag)
        firsts[Int(ticket.id)] = first
        lasts[Int(first)] = cursor
        free = links[Int(cursor)]
        store(heads: free, old: free)
    }

    /// See `PackedCrashLedger`.
    @inlinable @inline(__always)
    public mutating func willAnswer(_ ticket: ChainTicket) { answered.append(firsts[Int(ticket.id)]) }

    /// See `PackedCrashLedger`.
    @inlinable
    public mutating func willPublish(_ used: PackedPosition) {
        freed = free
        for first in answered {
            let last = lasts[Int(first)]
            links[Int(last)] = freed
            store(freed, at: place(last) &+ PackedInflightLayout.link)
            freed = first
        }
        store(heads: freed, old: free)
        position = used
        storePositions()
    }

    /// See `PackedCrashLedger`.
    @inlinable
    public mutating func didPublish() {
        if let observer { observer() }
        for first in answered { store(0, at: place(first) &+ PackedInflightLayout.flag) }
        answered.removeAll(keepingCapacity: true)
        free = freed
        store(heads: free, old: free)
        settled = position
        storePositions()
    }
}
