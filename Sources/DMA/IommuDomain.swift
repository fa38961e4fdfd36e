// An IO address space: what one device, behind a software IOMMU, may reach. Its page tables have pages of 4 KiB, 2 MiB and 1 GiB.
// Used by one thread.
//
// Order of an unmapping: the page table entry goes, then the IOTLB forgets it, and only then may the address, and the memory, be
// used again. In deferred mode the middle step waits for a batch; until then the device can still reach the frame through what the
// IOTLB remembers. `staleMappings` shows that window; the address is not given out again before it is closed.

import FrameMaps

/// When the IOTLB forgets what was unmapped.
public enum IommuMode: String, Sendable, CaseIterable {
    /// At once.
    case strict
    /// In batches.
    case deferred
}

/// How an IOMMU has been used.
public struct IommuStatistics: Hashable, Sendable {
    /// Links made, single pages or ranges.
    public var maps: UInt64 = 0
    /// Links ended.
    public var unmaps: UInt64 = 0
    /// Accesses that the IOTLB knew.
    public var hits: UInt64 = 0
    /// Accesses that walked the tables.
    public var misses: UInt64 = 0
    /// Invalidations: single ones in strict mode, batches in deferred mode.
    public var invalidations: UInt64 = 0
}

/// See the file's beginning. What works is `IommuCore`; this owns it.
@safe
public final class IommuDomain: CustomStringConvertible {
    /// For faults.
    public let device: String
    /// When the IOTLB forgets.
    public let mode: IommuMode
    /// Unmapped ranges that one invalidation covers in deferred mode.
    public let batchLimit: Int
    let core: UnsafeMutablePointer<IommuCore>
    @usableFromInline let tables: RadixWindow

    /// How it has been used.
    public var statistics: IommuStatistics { unsafe core.pointee.statistics }
    /// What was refused.
    public var faults: IOFaultLog { unsafe core.pointee.faults }
    /// Whether writes are recorded page by page.
    public var tracksDirty: Bool {
        get { unsafe core.pointee.tracksDirty }
        set { unsafe core.pointee.tracksDirty = newValue }
    }

    /// A device's IO address space, empty. Throws `noTables`.
    /// - Parameters:
    ///   - device: what the device is called in faults.
    ///   - mode: when what was unmapped is out of the device's reach.
    ///   - mask: the largest address the device can send; IO addresses stay below it (and below 1 TiB).
    ///   - batchLimit: in deferred mode, unmapped ranges that wait at most.
    ///   - tableLimit: tables of 4 KiB.
    public init(
        device: String, mode: IommuMode, mask: UInt64 = .max, batchLimit: Int = 256, tableLimit: Int = 1 << 20
    ) throws(DMAError) {
        let made = try IommuCore(device: device, mode: mode, mask: mask, batchLimit: batchLimit, tableLimit: tableLimit)
        self.device = device
        self.mode = mode
        self.batchLimit = max(1, batchLimit)
        unsafe core = .allocate(capacity: 1)
        unsafe core.initialize(to: made)
        tables = unsafe core.pointee.view
    }

    deinit {
        unsafe core.deinitialize(count: 1)
        unsafe core.deallocate()
    }

    // MARK: The driver's side

    /// Reserves `pages` consecutive IO pages.
    public func reserve(pages: Int) throws(DMAError) -> Iova { try unsafe core.pointee.reserve(pages: pages) }

    /// Gives a reservation back that nothing is linked into; false, and nothing changes, if it is none.
    @discardableResult
    public func free(_ iova: Iova, pages: Int) -> Bool { unsafe core.pointee.free(iova, pages: pages) }

    /// Links `pages` frames from `frame` on at `iova`, inside a reservation. Large pages are used where both are aligned. Where
    /// anything is linked already, nothing happens (`alreadyLinked`).
    public func link(_ iova: Iova, to frame: BusFrame, pages: Int, _ permissions: FramePermissions) throws(DMAError) {
        try unsafe core.pointee.link(iova, to: frame, pages: pages, permissions)
    }

    /// Unlinks the pages; the device still reaches them through the IOTLB until `invalidate`. A part of a large page splits it,
    /// which may need memory.
    public func unlink(_ iova: Iova, pages: Int) throws(DMAError) { try unsafe core.pointee.unlink(iova, pages: pages) }

    /// Makes the IOTLB forget these pages.
    public func invalidate(_ iova: Iova, pages: Int) { unsafe core.pointee.invalidate(iova, pages: pages) }

    /// Unlinks a whole reservation and gives it back, in strict mode now, else with its batch.
    public func release(_ iova: Iova, pages: Int) throws(DMAError) { try unsafe core.pointee.release(iova, pages: pages) }

    /// Closes the window: the IOTLB forgets everything, and what waited for that may be used again.
    public func flush() { unsafe core.pointee.flush() }

    /// Ranges that are unmapped and that the device may still reach.
    public var staleMappings: [(iova: Iova, pages: Int)] { unsafe core.pointee.staleMappings }

    /// How many they are.
    public var staleCount: Int { unsafe core.pointee.staleCount }

    /// Hands the recorded faults out and makes room for new ones; the count stays.
    public func takeFaults() -> [IOFault] { unsafe core.pointee.takeFaults() }

    /// What is at an IO address by the page tables, whatever the IOTLB remembers.
    @inlinable @inline(__always)
    public func lookup(_ iova: Iova) -> (frame: BusFrame, permissions: FramePermissions, isDirty: Bool)? {
        let word = tables.word(iova.page)
        if _fastPath(word != 0) {
            return (BusFrame(rawValue: EntryWord.frame(word)), EntryWord.permissions(word), word & 1 << 5 != 0)
        }
        return lookupLarge(iova)
    }

    @usableFromInline @inline(never)
    func lookupLarge(_ iova: Iova) -> (frame: BusFrame, permissions: FramePermissions, isDirty: Bool)? {
        unsafe core.pointee.lookup(iova)
    }

    /// Reads which of the pages the device has written, and starts over.
    public func takeDirty(_ iova: Iova, pages: Int) -> [Bool] { unsafe core.pointee.takeDirty(iova, pages: pages) }

    /// Memory of the page tables, bytes.
    public var tableByteCount: Int { unsafe core.pointee.tableByteCount }
    /// IO pages that could be reserved, those that wait for an invalidation not among them.
    public var freePages: Int { unsafe core.pointee.freePages }

    // MARK: The device's side

    /// The frame behind an IO page for one access; nil, and a fault recorded, if it is refused.
    func translate(_ iova: Iova, writes: Bool) -> BusFrame? { unsafe core.pointee.translate(iova, writes: writes) }

    /// A device's access to a byte: `translate` for those who have no device.
    package func access(_ iova: Iova, writes: Bool) -> BusFrame? { translate(iova, writes: writes) }

    /// `IOMMU of vbd-51712, strict: 12 faults`.
    public var description: String { "IOMMU of \(device), \(mode.rawValue): \(faults.count) faults" }
}
