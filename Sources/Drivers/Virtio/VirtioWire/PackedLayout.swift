// A packed ring in memory: one ring of descriptors that both sides write, and for each side a word that says when it
// wants to be woken (struct vring_packed_desc, vring_packed_desc_event; linux/virtio_ring.h).

import SharedMemory

/// An entry of a packed ring, or of an indirect table of one (`struct vring_packed_desc`).
public struct PackedDescriptor: Equatable, Sendable, BitwiseCopyable {
    /// Bytes that it takes; rings and tables are aligned to as many.
    @inlinable public static var byteCount: Int { 16 }
    /// Where the flags are, which make the entry somebody's.
    @inlinable public static var flagsOffset: Int { 14 }

    /// Where the bytes begin, as the driver's addresses are; nothing in a used entry.
    public var address: UInt64
    /// How many bytes there are, or were written.
    public var byteCount: UInt32
    /// What the driver calls the chain; of a chain's last entry only.
    public var id: UInt16
    /// What the bytes are for, and whose the entry is.
    public var flags: DescriptorFlags

    /// An entry.
    @inlinable
    public init(address: UInt64, byteCount: UInt32, id: UInt16, flags: DescriptorFlags) {
        self.address = address
        self.byteCount = byteCount
        self.id = id
        self.flags = flags
    }

    /// An entry from its two words.
    @inlinable @inline(__always)
    public init(words first: UInt64, _ second: UInt64) {
        address = first
        byteCount = UInt32(truncatingIfNeeded: second)
        id = UInt16(truncatingIfNeeded: second >> 32)
        flags = DescriptorFlags(rawValue: UInt16(truncatingIfNeeded: second >> 48))
    }

    /// Loads the rest of the entry at `offset` whose flags have been loaded; each byte once.
    @inlinable @inline(__always)
    public init(_ region: SharedRegion, at offset: Int, flags: DescriptorFlags) {
        address = UInt64(littleEndian: region.load(offset))
        byteCount = UInt32(littleEndian: region.load(offset &+ 8))
        id = UInt16(littleEndian: region.load(offset &+ 12))
        self.flags = flags
    }

    /// Loads the flags of the entry at `offset`; what was written before them is visible afterwards.
    @inlinable @inline(__always)
    public static func loadFlags(_ region: SharedRegion, at offset: Int) -> DescriptorFlags {
        // Acquire: the flags before what they are about.
        DescriptorFlags(rawValue: UInt16(littleEndian: region.loadAcquiring16(offset &+ flagsOffset)))
    }

    /// Stores the flags of the entry at `offset`, after everything that was written before.
    @inlinable @inline(__always)
    public static func storeFlags(_ flags: DescriptorFlags, _ region: SharedRegion, at offset: Int) {
        // Release: what they are about before the flags.
        region.storeReleasing16(flags.rawValue.littleEndian, at: offset &+ flagsOffset)
    }

    /// Stores all of the entry at `offset` but its flags.
    @inlinable @inline(__always)
    public func storeBody(_ region: SharedRegion, at offset: Int) {
        region.store(address.littleEndian, at: offset)
        Self.storeAnswer(id: id, written: byteCount, region, at: offset)
    }

    /// Stores what a used entry says, but its flags; the address stays.
    @inlinable @inline(__always)
    public static func storeAnswer(id: UInt16, written: UInt32, _ region: SharedRegion, at offset: Int) {
        region.store(written.littleEndian, at: offset &+ 8)
        region.store(id.littleEndian, at: offset &+ 12)
    }
}

/// When a side of a packed ring wants to be woken (`struct vring_packed_desc_event`): one word, so that it is read and
/// written as a whole.
public struct PackedEvent: Equatable, Sendable, BitwiseCopyable {
    /// Bytes that it takes; aligned to as many.
    @inlinable public static var byteCount: Int { 4 }

    /// Where in the ring, and in bit 15 the wrap counter there; of `.atEntry` only.
    public var position: UInt16
    /// 0, 1 or 2: see below.
    public var flags: UInt16

    /// Both halves.
    @inlinable public init(position: UInt16, flags: UInt16) {
        self.position = position
        self.flags = flags
    }

    /// At every entry (`VRING_PACKED_EVENT_FLAG_ENABLE`).
    @inlinable public static var always: Self { Self(position: 0, flags: 0) }
    /// Not at all (`VRING_PACKED_EVENT_FLAG_DISABLE`).
    @inlinable public static var never: Self { Self(position: 0, flags: 1) }
    /// At one entry (`VRING_PACKED_EVENT_FLAG_DESC`); only where `VirtioFeatures.eventIndex` was agreed on.
    @inlinable public static func atEntry(_ position: UInt16) -> Self { Self(position: position, flags: 2) }

    /// Loads the word at `offset`, once.
    @inlinable @inline(__always)
    public init(_ region: SharedRegion, at offset: Int) {
        let word = UInt32(littleEndian: region.loadRelaxed(offset))
        position = UInt16(truncatingIfNeeded: word)
        flags = UInt16(truncatingIfNeeded: word >> 16)
    }

    /// Stores the word at `offset`, at once.
    @inlinable @inline(__always)
    public func store(_ region: SharedRegion, at offset: Int) {
        region.storeRelaxed((UInt32(position) | UInt32(flags) << 16).littleEndian, at: offset)
    }
}
