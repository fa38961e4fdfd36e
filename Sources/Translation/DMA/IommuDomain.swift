// An IO address space: what one device, behind a software IOMMU, may reach. Its page tables have pages of 4 KiB, 2 MiB
// and 1 GiB. Used by one thread.
//
// Order of an unmapping: the page table entry goes, then the IOTLB forgets it, and only then may the address, and the
// memory, be used again. In deferred mode the middle step waits for a batch; until then the device can still reach the
// frame through what the IOTLB remembers. `staleMappings` shows that window; the address is not given out again before
// it is closed.

import FrameMaps
import SharedMemory

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

/// See the file's beginning. What works is `IommuState`; this owns it.
@safe
public final class IommuDomain: CustomStringConvertible {
    /// For faults.
    public let device: String
    /// When the IOTLB forgets.
    public let mode: IommuMode
    /// Unmapped ranges that one invalidation covers in deferred mode.
    public let batchLimit: Int
    let state: OwnedState<IommuState>
    @usableFromInline let tables: RadixWindow

    /// How it has been used.
    public var statistics: IommuStatistics { state.value.statistics }
    /// What was refused.
    public var faults: IOFaultLog { state.value.faults }
    /// Whether writes are recorded page by page.
    public var tracksDirty: Bool {
        get { state.value.tracksDirty }
        set { state.value.tracksDirty = newValue }
    }

    /// Asked for an access to a page that neither the IOTLB nor the tables know, with whether it writes: it may link
    /// the page, and the access then finds it, or leave it, and the access is a fault. Called from within the access,
    /// on the device's thread.
    package var missHandler: ((Iova, Bool) -> Void)?

    /// A device's IO address space, empty. Throws `noTables`, or `badConstraints` for a mask that leaves no address.
    /// - Parameters:
    ///   - device: what the device is called in faults.
    ///   - mode: when what was unmapped is out of the device's reach.
    ///   - mask: the largest address the device can send; IO addresses stay below it (and below 1 << `addressBits`).
    ///   - batchLimit: in deferred mode, unmapped ranges that wait at most.
    ///   - tableLimit: tables of 4 KiB.
    ///   - addressBits: what the page tables have room for, 21 to 57: 40 are 1 TiB. 8 bytes of address space for each
    ///     GiB, of memory only where something is linked.
    public init(
        device: String, mode: IommuMode, mask: UInt64 = .max, batchLimit: Int = 256, tableLimit: Int = 1 << 20,
        addressBits: Int = 40
    ) throws(DMAError) {
        self.device = device
        self.mode = mode
        self.batchLimit = max(1, batchLimit)
        state = OwnedState(
            try IommuState(
                device: device, mode: mode, mask: mask, batchLimit: batchLimit, tableLimit: tableLimit, addressBits: addressBits))
        tables = state.value.view
    }

    // MARK: The driver's side

    // Errors of ranges, in all of these: `badCount` for none or fewer, `misaligned`, `outsideSpace` for pages beyond
    // the mask or the tables' bits (1 TiB unless said otherwise). Nothing has changed then.

    /// Reserves `pages` consecutive IO pages, aligned to the next power of two of their number; never pages that
    /// something is linked at. Throws `badCount`, `noIova`. Reservations lie within the first 256 GiB.
    public func reserve(pages: Int) throws(DMAError) -> Iova { try state.value.reserve(pages: pages) }

    /// Gives a reservation back that nothing is linked into. Throws `notReserved`.
    public func free(_ iova: Iova, pages: Int) throws(DMAError) { try state.value.free(iova, pages: pages) }

    /// Links `pages` frames from `frame` on at `iova`, inside a reservation or, at an address of the caller's choice,
    /// outside of all: no reservation is made there until it is unlinked. Large pages are used where both are aligned.
    /// Where anything is linked already, nothing happens (`alreadyLinked`). Throws `frameOutOfRange`, `tableMemory` and
    /// the errors of ranges.
    public func link(_ iova: Iova, to frame: BusFrame, pages: Int, _ permissions: FramePermissions) throws(DMAError) {
        try state.value.link(iova, to: frame, pages: pages, permissions)
    }

    /// Unlinks the pages; the device still reaches them through the IOTLB until `invalidate`. A part of a large page
    /// splits it, which may need memory (`tableMemory`). Where nothing is linked, nothing happens. Throws the errors of
    /// ranges.
    public func unlink(_ iova: Iova, pages: Int) throws(DMAError) { try state.value.unlink(iova, pages: pages) }

    /// Makes the IOTLB forget these pages. Throws the errors of ranges.
    public func invalidate(_ iova: Iova, pages: Int) throws(DMAError) {
        try state.value.check(iova, pages)
        state.value.invalidate(iova, pages: pages)
    }

    /// Unlinks a whole reservation and gives it back, in strict mode now, else with its batch. Throws `notReserved`
    /// for what is none, or has been released already.
    public func release(_ iova: Iova, pages: Int) throws(DMAError) { try state.value.release(iova, pages: pages) }

    /// Closes the window: the IOTLB forgets everything, and what waited for that may be used again.
    public func flush() { state.value.flush() }

    /// Ranges that are unmapped and that the device may still reach.
    public var staleMappings: [(iova: Iova, pages: Int)] { state.value.staleMappings }

    /// How many they are.
    public var staleCount: Int { state.value.staleCount }

    /// Hands the recorded faults out and makes room for new ones; the count stays.
    public func takeFaults() -> [IOFault] { state.value.takeFaults() }

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
        state.value.lookup(iova)
    }

    /// Reads which of the pages the device has written, and starts over. Throws the errors of ranges.
    public func takeDirty(_ iova: Iova, pages: Int) throws(DMAError) -> [Bool] {
        try state.value.takeDirty(iova, pages: pages)
    }

    /// Reserves address space for frames in a row and links them there: `reserve` and `link` in one, for those who
    /// choose no address.
    package func map(_ frame: BusFrame, pages: Int, _ permissions: FramePermissions) throws(DMAError) -> Iova {
        let place = try state.value.reserve(pages: pages)
        do throws(DMAError) {
            guard frame.rawValue < frameNumberLimit, UInt64(pages) <= frameNumberLimit - frame.rawValue else {
                throw .frameOutOfRange(frame, pages: pages)
            }
            try state.value.linkReserved(place, to: frame, pages: pages, permissions)
            return place
        } catch {
            try state.value.free(place, pages: pages)
            throw error
        }
    }

    /// Its leaves by size, counted.
    public var leaves: IommuLeaves { state.value.leaves() }
    /// Memory of the page tables, bytes.
    public var tableByteCount: Int { state.value.tableByteCount }
    /// IO pages that could be reserved, those that wait for an invalidation not among them.
    public var freePages: Int { state.value.freePages }

    // MARK: The device's side

    /// The frame behind an IO page for one access; nil, and a fault recorded, if it is refused.
    func translate(_ iova: Iova, writes: Bool) -> BusFrame? { state.value.translate(iova, writes: writes) }

    /// A device's access to a byte: `translate` for those who have no device.
    package func access(_ iova: Iova, writes: Bool) -> BusFrame? {
        offerMiss(iova, writes: writes)
        return translate(iova, writes: writes)
    }

    /// Before an access: what nothing is known of is asked for.
    package func offerMiss(_ iova: Iova, writes: Bool) {
        guard let missHandler, !state.value.knows(iova) else { return }
        missHandler(iova, writes)
    }

    /// `IOMMU of vbd-51712, strict: 12 faults`.
    public var description: String { "IOMMU of \(device), \(mode.rawValue): \(faults.count) faults" }
}
