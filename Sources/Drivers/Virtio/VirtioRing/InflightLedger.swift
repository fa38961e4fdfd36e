// What a device has taken from a split ring, in the memory that a vhost-user front end keeps for it
// (VHOST_USER_GET_INFLIGHT_FD, "inflight I/O tracking" in QEMU's docs/interop/vhost-user.rst). The requests themselves
// stay with the driver; here are a flag, an order and a list for each head.
//
// The order of stores is the whole protocol. Each numbered store is one word, so it has happened or has not:
//   taking      the head's counter, then (1) its flag = 1
//   answering   (2) the head's link = the last head, then (3) the last head = this one
//   publishing  (4) the ring's own index, then (5) the flags of all that were put = 0, then (6) used_idx = the index
// InflightRecovery.swift reads it the other way round.

import SharedMemory

/// Where things lie in one ring's part of the in-flight memory, in bytes from its start; the host's order.
public enum InflightLayout {
    /// 0: no features are known.
    @inlinable public static var features: Int { 0 }
    /// 1; 0 before the first use.
    @inlinable public static var version: Int { 8 }
    /// Entries of the ring.
    @inlinable public static var size: Int { 10 }
    /// The head that was put last.
    @inlinable public static var lastHead: Int { 12 }
    /// The ring's used index up to which all is settled.
    @inlinable public static var used: Int { 14 }
    /// The first head's entry.
    @inlinable public static var entries: Int { 16 }
    /// Bytes of an entry.
    @inlinable public static var entrySize: Int { 16 }
    /// In an entry: whether the head is taken and not answered. A byte, with padding up to the link.
    @inlinable public static var flag: Int { 0 }
    /// In an entry: the head that was put before it.
    @inlinable public static var link: Int { 6 }
    /// In an entry: when it was taken.
    @inlinable public static var counter: Int { 8 }

    /// Bytes of a ring's part: whole cache lines.
    @inlinable public static func byteCount(_ ringSize: Int) -> Int { (entries + entrySize * ringSize + 63) & ~63 }
}

/// The in-flight memory of one split ring. Owned by the ring.
public struct InflightLedger: CrashLedger {
    @usableFromInline let area: RingArea
    @usableFromInline var counter: UInt64
    /// Heads that are put and not shown.
    @usableFromInline var answered: [UInt16] = []
    /// For tests: called after each numbered store.
    @usableFromInline var observer: (() -> Void)?

    /// Goes on with memory that `InflightRecovery` has read, and so begun or settled.
    /// - Parameter recovery: what was found there.
    public init(_ recovery: InflightRecovery) {
        area = recovery.area
        counter = recovery.nextCounter
        answered.reserveCapacity(recovery.size)
    }

    init(_ recovery: InflightRecovery, observer: @escaping () -> Void) {
        self.init(recovery)
        self.observer = observer
    }

    @inlinable @inline(__always)
    func place(_ head: UInt16) -> Int {
        area.offset &+ InflightLayout.entries &+ InflightLayout.entrySize &* Int(head)
    }

    /// The flag with its padding, as one word.
    @inlinable @inline(__always)
    func storeFlag(_ isOut: Bool, _ head: UInt16) {
        area.region.storeReleasing((isOut ? 1 as UInt32 : 0).littleEndian, at: place(head) &+ InflightLayout.flag)
        if let observer { observer() }
    }

    @inlinable @inline(__always)
    func store(_ value: UInt16, at offset: Int) {
        area.region.storeReleasing16(value, at: offset)
        if let observer { observer() }
    }

    /// See `CrashLedger`.
    @inlinable @inline(__always)
    public mutating func willTake(_ head: UInt16) {
        area.region.store(counter, at: place(head) &+ InflightLayout.counter)
        counter &+= 1
        storeFlag(true, head)
    }

    /// See `CrashLedger`.
    @inlinable @inline(__always)
    public mutating func willAnswer(_ head: UInt16) {
        let last = area.region.loadRelaxed16(area.offset &+ InflightLayout.lastHead)
        store(last, at: place(head) &+ InflightLayout.link)
        store(head, at: area.offset &+ InflightLayout.lastHead)
        answered.append(head)
    }

    /// See `CrashLedger`.
    @inlinable @inline(__always)
    public mutating func didPublish(_ used: VirtqueueIndex) {
        if let observer { observer() }
        for head in answered { storeFlag(false, head) }
        answered.removeAll(keepingCapacity: true)
        store(used.rawValue, at: area.offset &+ InflightLayout.used)
    }
}
