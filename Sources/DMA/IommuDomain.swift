// An IO address space: what one device, behind a software IOMMU, may reach. Its page tables have pages of 4 KiB, 2 MiB and 1 GiB. Used by one
// thread.
//
// Order of an unmapping: the page table entry goes, then the IOTLB forgets it, and only then may the address, and the memory, be used
// again. In deferred mode the middle step waits for a batch; until then the device can still reach the frame through what the IOTLB
// remembers. `staleMappings` shows that window; the address is not given out again before it is closed.

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
    public var maps: UInt64 = 0
    public var unmaps: UInt64 = 0
    public var hits: UInt64 = 0
    public var misses: UInt64 = 0
    /// Invalidations: single ones in strict mode, batches in deferred mode.
    public var invalidations: UInt64 = 0
}

public final class IommuDomain: CustomStringConvertible {
    /// For faults.
    public let device: String
    public let mode: IommuMode
    /// Unmapped ranges that one invalidation covers in deferred mode.
    public let batchLimit: Int
    public private(set) var statistics = IommuStatistics()
    public private(set) var faults = IOFaultLog()
    /// Whether writes are recorded page by page.
    public var tracksDirty = false

    private let tables: RadixTable
    private let space: UnitAllocator
    private var tlb = IOTLB()
    private var stale: [Stale] = []

    private struct Stale {
        var page: UInt64
        var count: Int
    }

    /// The first IO page: address 0 is never one, and neither is what a small offset or length passed by mistake would be.
    static let firstPage: UInt64 = 1 << 8
    /// Bit 5 of an entry: the device has written.
    static let dirtyBit: UInt64 = 1 << 5

    /// - Parameters:
    ///   - mask: the largest address the device can send; IO addresses stay below it (and below 1 TiB).
    ///   - tableLimit: tables of 4 KiB.
    public init(device: String, mode: IommuMode, mask: UInt64 = .max, batchLimit: Int = 256, tableLimit: Int = 1 << 20)
    {
        self.device = device
        self.mode = mode
        self.batchLimit = max(1, batchLimit)
        let pages = min(mask >> frameShift, (1 << 28) - 1) + 1
        tables = RadixTable(limit: pages, tableLimit: tableLimit)
        // Larger spaces than the most that can be mapped at once serve nothing: 16 Mi pages.
        space = UnitAllocator(capacity: Int(min(max(pages, Self.firstPage + 1) - Self.firstPage, 1 << 24)))
        stale.reserveCapacity(self.batchLimit)
    }

    // MARK: The driver's side

    /// Reserves `pages` consecutive IO pages.
    public func reserve(pages: Int) throws(DMAError) -> Iova {
        let order = UnitAllocator.order(pages)
        if let place = space.allocate(order: order) {
            return Iova(rawValue: (Self.firstPage + UInt64(place)) << frameShift)
        }
        // What waits for its invalidation is free in all but that.
        flush()
        guard let place = space.allocate(order: order) else {
            throw .noIova(pages: pages, largest: space.largestOrder.map { 1 << $0 } ?? 0)
        }
        return Iova(rawValue: (Self.firstPage + UInt64(place)) << frameShift)
    }

    /// Gives a reservation back that nothing is linked into.
    public func free(_ iova: Iova, pages: Int) {
        space.release(Int(iova.page &- Self.firstPage), order: UnitAllocator.order(pages))
    }

    /// Links `pages` frames from `frame` on at `iova`, inside a reservation. Large pages are used where both are aligned.
    @inline(__always)
    public func link(_ iova: Iova, to frame: BusFrame, pages: Int, _ permissions: FramePermissions) throws(DMAError) {
        guard iova.page + UInt64(pages) <= tables.limit, frame.rawValue < frameNumberLimit else {
            throw .noIova(pages: pages, largest: 0)
        }
        do throws(RadixFull) {
            try tables.prepareFill(iova.page, UInt64(pages), frame: frame.rawValue)
        } catch { throw .tableMemory }
        tables.fill(iova.page, UInt64(pages), EntryWord.make(EntryWord.local, frame.rawValue, permissions))
        statistics.maps &+= 1
    }

    /// Unlinks the pages, and in strict mode closes the window at once. A part of a large page splits it, which may need memory.
    @inline(__always)
    public func unlink(_ iova: Iova, pages: Int) throws(DMAError) {
        do throws(RadixFull) { try tables.prepareCut(iova.page, UInt64(pages)) } catch { throw .tableMemory }
        tables.clear(iova.page, UInt64(pages))
        statistics.unmaps &+= 1
    }

    /// Unlinks a whole reservation and gives it back, in strict mode now, else with its batch.
    public func release(_ iova: Iova, pages: Int) throws(DMAError) {
        try unlink(iova, pages: pages)
        switch mode {
        case .strict:
            tlb.invalidate(iova.page, count: pages)
            statistics.invalidations &+= 1
            free(iova, pages: pages)
        case .deferred:
            stale.append(Stale(page: iova.page, count: pages))
            if stale.count >= batchLimit { flush() }
        }
    }

    /// Closes the window: the IOTLB forgets everything, and what waited for that may be used again.
    public func flush() {
        if stale.isEmpty { return }
        tlb.invalidateAll()
        statistics.invalidations &+= 1
        for range in stale { free(Iova(rawValue: range.page << frameShift), pages: range.count) }
        stale.removeAll(keepingCapacity: true)
    }

    /// Ranges that are unmapped and that the device may still reach.
    public var staleMappings: [(iova: Iova, pages: Int)] {
        stale.map { (Iova(rawValue: $0.page << frameShift), $0.count) }
    }

    /// What is at an IO address by the page tables, whatever the IOTLB remembers.
    public func lookup(_ iova: Iova) -> (frame: BusFrame, permissions: FramePermissions, isDirty: Bool)? {
        let word = tables.load(iova.page).word
        guard EntryWord.hasFrame(word) else { return nil }
        return (BusFrame(rawValue: EntryWord.frame(word)), EntryWord.permissions(word), word & Self.dirtyBit != 0)
    }

    /// Reads which of the pages the device has written, and starts over.
    public func takeDirty(_ iova: Iova, pages: Int) -> [Bool] {
        let result = (0..<UInt64(pages)).map { tables.load(iova.page + $0).word & Self.dirtyBit != 0 }
        tables.rewrite(iova.page, UInt64(pages)) { $0 & ~Self.dirtyBit }
        // What is remembered as dirty would not be marked again.
        tlb.invalidate(iova.page, count: pages)
        return result
    }

    /// Memory of the page tables, bytes.
    public var tableByteCount: Int { tables.tableCount * 4096 }
    /// IO pages that could be reserved, those that wait for an invalidation not among them.
    public var freePages: Int { space.freeUnits }

    // MARK: The device's side

    /// The frame behind an IO page for one access; nil, and a fault recorded, if it is refused.
    @inline(__always)
    func translate(_ iova: Iova, writes: Bool) -> BusFrame? {
        let page = iova.page
        let needed: FramePermissions = writes ? .write : .read
        let marks = writes && tracksDirty
        if let word = tlb.find(page), !marks || word & Self.dirtyBit != 0 {
            statistics.hits &+= 1
            guard EntryWord.permissions(word).contains(needed) else { return refuse(iova, writes) }
            return BusFrame(rawValue: EntryWord.frame(word))
        }
        return walk(iova, needed, marks)
    }

    private func walk(_ iova: Iova, _ needed: FramePermissions, _ marks: Bool) -> BusFrame? {
        statistics.misses &+= 1
        var word = tables.load(iova.page).word
        guard EntryWord.hasFrame(word) else {
            faults.record(IOFault(device: device, iova: iova, cause: .notMapped))
            return nil
        }
        guard EntryWord.permissions(word).contains(needed) else { return refuse(iova, needed == .write) }
        if marks && word & Self.dirtyBit == 0 {
            word |= Self.dirtyBit
            // A large page is dirty as a whole.
            tables.rewrite(iova.page, 1) { $0 | Self.dirtyBit }
        }
        tlb.insert(iova.page, word)
        return BusFrame(rawValue: EntryWord.frame(word))
    }

    private func refuse(_ iova: Iova, _ writes: Bool) -> BusFrame? {
        faults.record(IOFault(device: device, iova: iova, cause: writes ? .writeDenied : .readDenied))
        return nil
    }

    /// A device's access to a byte: `translate` for those who have no device.
    package func access(_ iova: Iova, writes: Bool) -> BusFrame? { translate(iova, writes: writes) }

    /// Hands the faults recorded so far out, the oldest first, and makes room for new ones.
    public func takeFaults() -> [IOFault] { faults.take() }

    /// The frame is mapped, but no memory is there any more.
    func noMemory(at iova: Iova) { faults.record(IOFault(device: device, iova: iova, cause: .noMemory)) }

    /// `IOMMU of vbd-51712, strict: 12 faults`.
    public var description: String { "IOMMU of \(device), \(mode.rawValue): \(faults.count) faults" }
}
