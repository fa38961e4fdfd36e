// A split ring in memory: a table of descriptors, the driver's ring of heads, the device's ring of used chains (struct
// vring_desc, vring_avail, vring_used; linux/virtio_ring.h).

import SharedMemory

/// What a descriptor says of itself beside its place and length (`VRING_DESC_F_*`, `VRING_PACKED_DESC_F_*`).
public struct DescriptorFlags: OptionSet, Hashable, Sendable, BitwiseCopyable {
    /// The word in the descriptor.
    public var rawValue: UInt16
    /// Any word.
    @inlinable public init(rawValue: UInt16) { self.rawValue = rawValue }

    /// The chain goes on.
    @inlinable public static var next: Self { Self(rawValue: 1) }
    /// The device writes; else it reads.
    @inlinable public static var write: Self { Self(rawValue: 2) }
    /// What it names is a table of descriptors.
    @inlinable public static var indirect: Self { Self(rawValue: 4) }
    /// Packed: made available, if it is as the driver's wrap counter.
    @inlinable public static var available: Self { Self(rawValue: 1 << 7) }
    /// Packed: used, if it is as the device's wrap counter.
    @inlinable public static var used: Self { Self(rawValue: 1 << 15) }
}

/// An entry of a split ring's table, or of an indirect table of one (`struct vring_desc`).
public struct SplitDescriptor: Equatable, Sendable, BitwiseCopyable {
    /// Bytes that it takes; tables are aligned to as many.
    @inlinable public static var byteCount: Int { 16 }

    /// Where the bytes begin, as the driver's addresses are.
    public var address: UInt64
    /// How many bytes there are.
    public var byteCount: UInt32
    /// What they are for.
    public var flags: DescriptorFlags
    /// The entry after this one, if `flags` say that there is one.
    public var next: UInt16

    /// An entry.
    @inlinable
    public init(address: UInt64, byteCount: UInt32, flags: DescriptorFlags, next: UInt16 = 0) {
        self.address = address
        self.byteCount = byteCount
        self.flags = flags
        self.next = next
    }

    /// An entry from its two words.
    @inlinable @inline(__always)
    public init(words first: UInt64, _ second: UInt64) {
        address = first
        byteCount = UInt32(truncatingIfNeeded: second)
        flags = DescriptorFlags(rawValue: UInt16(truncatingIfNeeded: second >> 32))
        next = UInt16(truncatingIfNeeded: second >> 48)
    }

    /// Loads the entry at `offset`, each byte once.
    @inlinable @inline(__always)
    public init(_ region: SharedRegion, at offset: Int) {
        self.init(words: UInt64(littleEndian: region.load(offset)), UInt64(littleEndian: region.load(offset &+ 8)))
    }

    /// Stores the entry at `offset`.
    @inlinable @inline(__always)
    public func store(_ region: SharedRegion, at offset: Int) {
        let second = UInt64(byteCount) | UInt64(flags.rawValue) << 32 | UInt64(next) << 48
        region.store(address.littleEndian, at: offset)
        region.store(second.littleEndian, at: offset &+ 8)
    }
}

/// An entry of the ring of used chains (`struct vring_used_elem`).
public struct UsedElement: Equatable, Sendable, BitwiseCopyable {
    /// Bytes that it takes.
    @inlinable public static var byteCount: Int { 8 }

    /// The chain's head.
    public var id: UInt32
    /// Bytes that the device wrote.
    public var written: UInt32

    /// An entry.
    @inlinable public init(id: UInt32, written: UInt32) {
        self.id = id
        self.written = written
    }

    /// Loads the entry at `offset`, each byte once.
    @inlinable @inline(__always)
    public init(_ region: SharedRegion, at offset: Int) {
        let word = UInt64(littleEndian: region.load(offset))
        self.init(id: UInt32(truncatingIfNeeded: word), written: UInt32(truncatingIfNeeded: word >> 32))
    }

    /// Stores the entry at `offset`.
    @inlinable @inline(__always)
    public func store(_ region: SharedRegion, at offset: Int) {
        region.store((UInt64(id) | UInt64(written) << 32).littleEndian, at: offset)
    }
}

/// Where things lie in the three areas of a split ring, in bytes from the area's start.
public enum SplitLayout {
    /// The most entries a ring may have, split or packed.
    @inlinable public static var mostEntries: Int { 32768 }
    /// Both the driver's and the device's area begin with flags, then an index.
    @inlinable public static var flags: Int { 0 }
    /// See `flags`.
    @inlinable public static var index: Int { 2 }
    /// The first entry of either ring.
    @inlinable public static var ring: Int { 4 }
    /// In the driver's flags: no signal wanted (`VRING_AVAIL_F_NO_INTERRUPT`).
    @inlinable public static var noSignal: UInt16 { 1 }
    /// In the device's flags: no kick wanted (`VRING_USED_F_NO_NOTIFY`).
    @inlinable public static var noKick: UInt16 { 1 }

    /// Bytes of the table.
    @inlinable public static func descriptorBytes(_ size: Int) -> Int { SplitDescriptor.byteCount * size }
    /// Where the driver says at which used entry it wants a signal (`vring_used_event`).
    @inlinable public static func usedEvent(_ size: Int) -> Int { ring + 2 * size }
    /// Where the device says at which available entry it wants a kick (`vring_avail_event`).
    @inlinable public static func availableEvent(_ size: Int) -> Int { ring + UsedElement.byteCount * size }
    /// Bytes of the driver's area.
    @inlinable public static func driverBytes(_ size: Int, eventIndex: Bool) -> Int { usedEvent(size) + (eventIndex ? 2 : 0) }
    /// Bytes of the device's area.
    @inlinable public static func deviceBytes(_ size: Int, eventIndex: Bool) -> Int {
        availableEvent(size) + (eventIndex ? 2 : 0)
    }
    /// What the areas' addresses are multiples of (`VRING_DESC_ALIGN_SIZE`, `VRING_AVAIL_…`, `VRING_USED_…`).
    @inlinable public static var descriptorAlignment: Int { 16 }
    /// See `descriptorAlignment`.
    @inlinable public static var driverAlignment: Int { 2 }
    /// See `descriptorAlignment`.
    @inlinable public static var deviceAlignment: Int { 4 }
}
