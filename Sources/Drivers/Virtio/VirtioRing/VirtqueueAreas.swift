// Where a ring's three areas are in mapped memory. They come from the driver as addresses; here they are found, or
// refused: each must be there as a whole, side by side in one region, aligned and, where the device writes, writable. A
// ring that lies across two regions is refused: nobody allocates one so, and every access would have to look.

import SharedMemory
import VirtioWire

/// A place in mapped memory.
public struct RingArea: Sendable {
    /// The memory.
    public let region: SharedRegion
    /// Where in it.
    public let offset: Int

    /// A place that its maker has checked.
    @inlinable public init(_ region: SharedRegion, at offset: Int) {
        self.region = region
        self.offset = offset
    }
}

/// The areas of a virtqueue, found and checked.
public struct VirtqueueAreas: Sendable, CustomStringConvertible {
    /// Entries of the ring.
    public let size: Int
    /// A packed ring, else a split one.
    public let isPacked: Bool
    /// The table, or the packed ring.
    public let descriptors: RingArea
    /// The driver's ring, or its event word.
    public let driver: RingArea
    /// The device's ring, or its event word.
    public let device: RingArea

    /// Finds the areas at addresses that `memory` translates, which need not be those that descriptors have.
    /// - Throws: `VirtqueueError.size`, `.misaligned`, `.unreachable`.
    public init(
        size: Int, descriptors: UInt64, driver: UInt64, device: UInt64, features: VirtioFeatures, in memory: some GuestMemory
    ) throws(VirtqueueError) {
        let isPacked = features.contains(.packedRing)
        try Self.check(size, isPacked)
        let shape = Self.shape(size, features)
        self.size = size
        self.isPacked = isPacked
        self.descriptors = try Self.area(descriptors, shape.descriptors, SplitLayout.descriptorAlignment, isPacked, memory)
        self.driver = try Self.area(driver, shape.driver, isPacked ? 4 : SplitLayout.driverAlignment, false, memory)
        self.device = try Self.area(device, shape.device, SplitLayout.deviceAlignment, true, memory)
    }

    /// What a ring at these addresses lies in, and what the device does there: whose memory is to be asked for first.
    /// - Throws: `VirtqueueError.size`, `.unreachable`.
    public static func extents(
        size: Int, descriptors: UInt64, driver: UInt64, device: UInt64, features: VirtioFeatures
    ) throws(VirtqueueError) -> [(run: GuestRun, rights: AccessRights)] {
        let isPacked = features.contains(.packedRing)
        try check(size, isPacked)
        let shape = shape(size, features)
        let areas: [(UInt64, Int, AccessRights)] = [
            (descriptors, shape.descriptors, isPacked ? [.read, .write] : .read), (driver, shape.driver, .read),
            (device, shape.device, .write),
        ]
        var extents: [(run: GuestRun, rights: AccessRights)] = []
        for (address, byteCount, rights) in areas {
            guard address <= UInt64.max - UInt64(byteCount) else { throw .unreachable(address: address, byteCount: byteCount) }
            extents.append((GuestRun(address: address, byteCount: UInt32(byteCount)), rights))
        }
        return extents
    }

    /// A ring of one's own in one piece of memory, `byteCount(…)` long, from `offset` on, a multiple of 16.
    ///
    /// Sizes that cannot be, and memory that is too small, are a programmer's errors and trap.
    public init(in region: SharedRegion, at offset: Int = 0, size: Int, features: VirtioFeatures) {
        let isPacked = features.contains(.packedRing)
        precondition(Self.isSize(size, isPacked), "a ring cannot have so many entries")
        precondition(
            offset >= 0 && offset % 16 == 0 && offset + Self.byteCount(size: size, features: features) <= region.byteCount,
            "a ring does not fit")
        let shape = Self.shape(size, features)
        self.size = size
        self.isPacked = isPacked
        descriptors = RingArea(region, at: offset)
        driver = RingArea(region, at: offset + shape.descriptors)
        device = RingArea(region, at: offset + Self.deviceStart(shape))
    }

    /// Bytes that a ring takes in one piece.
    public static func byteCount(size: Int, features: VirtioFeatures) -> Int {
        let shape = shape(size, features)
        return deviceStart(shape) + shape.device
    }

    /// How many entries a ring may have: up to 32768, of a split ring a power of two.
    public static func isSize(_ size: Int, _ isPacked: Bool) -> Bool {
        size >= 1 && size <= SplitLayout.mostEntries && (isPacked || size & (size - 1) == 0)
    }

    private static func check(_ size: Int, _ isPacked: Bool) throws(VirtqueueError) {
        guard isSize(size, isPacked) else { throw .size(size, packed: isPacked) }
    }

    /// Bytes of each area.
    private static func shape(_ size: Int, _ features: VirtioFeatures) -> (descriptors: Int, driver: Int, device: Int) {
        let eventIndex = features.contains(.eventIndex)
        guard !features.contains(.packedRing) else {
            return (PackedDescriptor.byteCount * size, PackedEvent.byteCount, PackedEvent.byteCount)
        }
        return (
            SplitLayout.descriptorBytes(size), SplitLayout.driverBytes(size, eventIndex: eventIndex),
            SplitLayout.deviceBytes(size, eventIndex: eventIndex)
        )
    }

    private static func deviceStart(_ shape: (descriptors: Int, driver: Int, device: Int)) -> Int {
        (shape.descriptors + shape.driver + 3) & ~3
    }

    private static func area(
        _ address: UInt64, _ byteCount: Int, _ alignment: Int, _ forWriting: Bool, _ memory: some GuestMemory
    ) throws(VirtqueueError) -> RingArea {
        guard address % UInt64(alignment) == 0 else { throw .misaligned(address: address, alignment: alignment) }
        guard address <= UInt64.max - UInt64(byteCount) else { throw .unreachable(address: address, byteCount: byteCount) }
        let run = GuestRun(address: address, byteCount: UInt32(byteCount))
        guard case .here(let region, let offset, let count) = memory.piece(run, forWriting: forWriting), count == run.byteCount
        else { throw .unreachable(address: address, byteCount: byteCount) }
        // The address is aligned; where it is mapped may not be.
        guard offset % alignment == 0 else { throw .misaligned(address: UInt64(offset), alignment: alignment) }
        return RingArea(region, at: offset)
    }

    /// `split ring of 128`.
    public var description: String { "\(isPacked ? "packed" : "split") ring of \(size)" }
}
