// How an IO address space works: what one device, behind a software IOMMU, may reach. Its page tables have pages of 4
// KiB, 2 MiB and 1 GiB. Used by one thread.
//
// Order of an unmapping: the page table entry goes, then the IOTLB forgets it, and only then may the address, and the
// memory, be used again. In deferred mode the middle step waits for a batch; until then the device can still reach the
// frame through what the IOTLB remembers. `staleMappings` shows that window; the address is not given out again before
// it is closed.

import FrameMaps
import Glibc

/// The domain's state and rules. A value without copies behind one pointer, so that the data path pays for no reference
/// counts.
///
/// SAFETY: `stale` has room for `batchLimit` ranges, of which `staleCount` are initialized, and a range owns nothing.
/// `release` empties it as soon as it is full, so that there is always room for one. `sizes` has a byte for each of
/// `spacePages` pages, with which a page is compared first, unless the allocator gave it. Both are allocated by `init`
/// and freed by `deinit`. Used by one thread.
@safe
struct IommuState: ~Copyable {
    /// For faults.
    let device: String
    let mode: IommuMode
    /// Unmapped ranges that one invalidation covers in deferred mode.
    let batchLimit: Int
    var statistics = IommuStatistics()
    var faults = IOFaultLog()
    var tracksDirty = false
    private var tlb = IOTLB()
    private(set) var staleCount = 0

    let tables: RadixTable
    let space: UnitAllocator
    /// Pages that reservations are made of; those of the tables beyond are for links at fixed addresses.
    private let spacePages: UInt64
    /// For each page one more than the order of the reservation that begins there, or 0. Memory is there only where
    /// reservations are.
    private let sizes: UnsafeMutablePointer<UInt8>
    /// Whether anything may be linked outside of reservations.
    var hasFixed = false
    /// Units taken out of the space because of such links.
    var fixed: [FixedUnit] = []
    /// Ranges that wait for their invalidation: `batchLimit` of them.
    private let stale: UnsafeMutablePointer<Stale>

    private struct Stale {
        var page: UInt64
        var count: Int
    }

    /// The first IO page: address 0 is never one, and neither is what a small offset or length passed by mistake would
    /// be.
    static let firstPage: UInt64 = 1 << 8
    /// The most pages of reservations: four times as many as can be mapped at once, 256 GiB.
    static let mostReserved: UInt64 = 1 << 26
    /// Bit 5 of an entry: the device has written.
    static let dirtyBit: UInt64 = 1 << 5

    /// - Parameters:
    ///   - mask: the largest address the device can send; IO addresses stay below it (and below 1 << addressBits).
    ///   - tableLimit: tables of 4 KiB.
    ///   - addressBits: what the page tables have room for, 57 at most.
    /// Throws `noTables`, or `badConstraints` for a mask that leaves no address, or such a number of bits.
    init(
        device: String, mode: IommuMode, mask: UInt64 = .max, batchLimit: Int = 256, tableLimit: Int = 1 << 20,
        addressBits: Int = 40
    ) throws(DMAError) {
        guard (21...57).contains(addressBits) else {
            throw .badConstraints("\(device): an IO address has 21 to 57 bits, not \(addressBits)")
        }
        let pages = min(mask >> frameShift, (1 << UInt64(addressBits - 12)) - 1) + 1
        guard pages > Self.firstPage else {
            throw .badConstraints("\(device): a mask of 0x\(String(mask, radix: 16)) leaves no IO address; the first is 0x100000")
        }
        // All that can fail first: a value without copies cannot be half made.
        let tables = try Self.pageTables(pages, tableLimit, device)
        let reserved = min(pages, Self.mostReserved)
        let space = try UnitAllocator(capacity: Int(reserved), from: Int(Self.firstPage), of: "IO pages", name: device)
        let batch = max(1, batchLimit)
        let size = batch.multipliedReportingOverflow(by: MemoryLayout<Stale>.stride)
        // SAFETY: room for `batch` ranges or nothing.
        guard !size.overflow, let memory = unsafe malloc(size.partialValue) else {
            throw .noTables(name: device, of: "batches of \(batch) ranges", byteCount: size.overflow ? .max : size.partialValue)
        }
        // SAFETY: a byte for each page, all 0, or nothing; nothing after it fails.
        guard let records = unsafe calloc(Int(reserved), 1) else {
            unsafe Glibc.free(memory)
            throw .noTables(name: device, of: "records of \(reserved) IO pages", byteCount: Int(reserved))
        }
        spacePages = reserved
        unsafe sizes = records.bindMemory(to: UInt8.self, capacity: Int(reserved))
        self.device = device
        self.mode = mode
        self.batchLimit = batch
        self.tables = tables
        self.space = space
        unsafe stale = memory.bindMemory(to: Stale.self, capacity: batch)
    }

    private static func pageTables(_ pages: UInt64, _ limit: Int, _ device: String) throws(DMAError) -> RadixTable {
        do throws(FrameMapError) { return try RadixTable(limit: pages, tableLimit: limit) } catch {
            throw .noTables(name: device, of: "the page tables of \(pages) IO pages", byteCount: error.byteCount)
        }
    }

    deinit {
        unsafe Glibc.free(stale)
        unsafe Glibc.free(sizes)
    }

    /// The page tables' window.
    var view: RadixWindow { tables.view }

    // MARK: The driver's side

    /// Reserves `pages` consecutive IO pages, aligned to the next power of two of their number.
    @inline(__always)
    mutating func reserve(pages: Int) throws(DMAError) -> Iova {
        let iova = try take(pages: pages)
        unsafe sizes[Int(truncatingIfNeeded: iova.page)] = UInt8(truncatingIfNeeded: UnitAllocator.order(pages) &+ 1)
        return iova
    }

    /// The same for a device's own mappings, whose ledger has the record. `giveBack` ends it; to `release` and `free`
    /// it is no reservation.
    @inline(__always)
    mutating func take(pages: Int) throws(DMAError) -> Iova {
        if pages < 1 { throw .badCount(pages) }
        let order = UnitAllocator.order(pages)
        guard !hasFixed, let place = space.allocate(order: order) else { return try takeElsewhere(order, pages) }
        return Iova(rawValue: UInt64(place) << frameShift)
    }

    private mutating func takeElsewhere(_ order: Int, _ pages: Int) throws(DMAError) -> Iova {
        if hasFixed, let place = takeUnlinked(order) { return Iova(rawValue: UInt64(place) << frameShift) }
        // What waits for its invalidation is free in all but that, and what was linked at a fixed address may be no
        // more.
        let isWorthIt = staleCount > 0 || !fixed.isEmpty
        flush()
        giveBackFixed()
        guard isWorthIt, let place = takeUnlinked(order) else {
            throw .noIova(pages: pages, largest: space.largestOrder.map { 1 << $0 } ?? 0)
        }
        return Iova(rawValue: UInt64(place) << frameShift)
    }

    /// The place and order of the reservation of `pages` pages that begins at an address. Throws `notReserved`.
    @inline(__always)
    private func reservation(_ iova: Iova, _ pages: Int) throws(DMAError) -> (place: Int, order: Int) {
        let order = UnitAllocator.order(pages)
        // An offset in the page is above all pages.
        let page = iova.rawValue >> frameShift | iova.rawValue << (64 &- frameShift)
        guard page < spacePages, pages > 0 else { throw .notReserved(iova, pages: pages) }
        let place = Int(truncatingIfNeeded: page)
        guard unsafe Int(sizes[place]) == order &+ 1 else { throw .notReserved(iova, pages: pages) }
        return (place, order)
    }

    /// Gives a reservation back that nothing is linked into.
    @inline(__always)
    mutating func free(_ iova: Iova, pages: Int) throws(DMAError) {
        let (place, order) = try reservation(iova, pages)
        unsafe sizes[place] = 0
        space.releaseTaken(place, order: order)
    }

    /// That a range of pages lies in the address space.
    @inline(__always)
    func check(_ iova: Iova, _ pages: Int) throws(DMAError) {
        if pages < 1 { throw .badCount(pages) }
        if iova.offset != .zero { throw .misaligned(iova) }
        guard iova.page < tables.limit, UInt64(pages) <= tables.limit &- iova.page else {
            throw .outsideSpace(iova, pages: pages, limit: tables.limit)
        }
    }

    /// Links frames at an address of the caller's choice, which may be one of a reservation.
    @inline(__always)
    mutating func link(_ iova: Iova, to frame: BusFrame, pages: Int, _ permissions: FramePermissions) throws(DMAError) {
        // One page that is none of what `check` looks for.
        if pages != 1 || iova.rawValue & (frameByteCount &- 1) | frame.rawValue >> 52 != 0 || iova.page >= tables.limit {
            try check(iova, pages)
            guard frame.rawValue < frameNumberLimit, UInt64(pages) <= frameNumberLimit &- frame.rawValue else {
                throw .frameOutOfRange(frame, pages: pages)
            }
        }
        hasFixed = true
        try linkReserved(iova, to: frame, pages: pages, permissions)
    }

    /// Links `pages` frames from `frame` on at `iova`, inside a reservation of as many. Large pages are used where both
    /// are aligned. Where anything is linked already, nothing happens (`alreadyLinked`).
    @inline(__always)
    mutating func linkReserved(_ iova: Iova, to frame: BusFrame, pages: Int, _ permissions: FramePermissions) throws(DMAError) {
        let word = EntryWord.make(EntryWord.local, frame.rawValue, permissions)
        if pages == 1 {
            switch tables.storeInPlace(iova.page, word) {
            case .done:
                statistics.maps &+= 1
                return
            case .occupied: throw .alreadyLinked(iova)
            case .needsTable: break
            }
        }
        try linkRange(iova, word, pages)
    }

    private mutating func linkRange(_ iova: Iova, _ word: UInt64, _ pages: Int) throws(DMAError) {
        let (page, count) = (iova.page, UInt64(pages))
        if let taken = tables.firstPresent(page, count) { throw .alreadyLinked(Iova(rawValue: taken << frameShift)) }
        do throws(RadixFull) {
            try tables.prepareFill(page, count, frame: EntryWord.frame(word))
        } catch { throw .tableMemory }
        tables.fill(page, count, word)
        statistics.maps &+= 1
    }

    /// Unlinks the pages; the device still reaches them through the IOTLB until `invalidate`. A part of a large page
    /// splits it, which may need memory.
    @inline(__always)
    mutating func unlink(_ iova: Iova, pages: Int) throws(DMAError) {
        if pages != 1 || iova.rawValue & (frameByteCount &- 1) != 0 || !tables.clearInPlace(iova.page) {
            try unlinkAny(iova, pages)
        }
        statistics.unmaps &+= 1
    }

    @inline(never)
    private mutating func unlinkAny(_ iova: Iova, _ pages: Int) throws(DMAError) {
        try check(iova, pages)
        try unlinkRange(iova.page, UInt64(pages))
    }

    private mutating func unlinkRange(_ start: UInt64, _ count: UInt64) throws(DMAError) {
        do throws(RadixFull) { try tables.prepareCut(start, count) } catch { throw .tableMemory }
        tables.clear(start, count)
    }

    /// Makes the IOTLB forget these pages.
    mutating func invalidate(_ iova: Iova, pages: Int) {
        tlb.invalidate(iova.page, count: pages)
        statistics.invalidations &+= 1
    }

    /// Unlinks a whole reservation and gives it back, in strict mode now, else with its batch.
    @inline(__always)
    mutating func release(_ iova: Iova, pages: Int) throws(DMAError) {
        let (place, _) = try reservation(iova, pages)
        try giveBack(iova, pages: pages)
        // Nobody's from here on: a second release is an error at once, also while the first one waits.
        unsafe sizes[place] = 0
    }

    /// The same for what `take` gave: as many pages, and once.
    @inline(__always)
    mutating func giveBack(_ iova: Iova, pages: Int) throws(DMAError) {
        let page = iova.page
        if pages != 1 || !tables.clearInPlace(page) { try unlinkRange(page, UInt64(pages)) }
        statistics.unmaps &+= 1
        switch mode {
        case .strict:
            invalidate(iova, pages: pages)
            space.releaseTaken(Int(truncatingIfNeeded: page), order: UnitAllocator.order(pages))
        case .deferred:
            let count = staleCount
            unsafe stale[count] = Stale(page: page, count: pages)
            staleCount = count &+ 1
            if count &+ 1 >= batchLimit { flush() }
        }
    }

    /// Closes the window: the IOTLB forgets everything, and what waited for that may be used again.
    mutating func flush() {
        let count = staleCount
        if count == 0 { return }
        tlb.invalidateAll()
        statistics.invalidations &+= 1
        staleCount = 0
        for index in 0..<count {
            let range = unsafe stale[index]
            space.releaseTaken(Int(truncatingIfNeeded: range.page), order: UnitAllocator.order(range.count))
        }
    }

    /// Whether the IOTLB has a page.
    func remembers(_ page: UInt64) -> Bool { tlb.find(page) != nil }

    /// Ranges that are unmapped and that the device may still reach.
    var staleMappings: [(iova: Iova, pages: Int)] {
        (0..<staleCount).map { index in
            let range = unsafe stale[index]
            return (Iova(rawValue: range.page << frameShift), range.count)
        }
    }

    /// Hands the recorded faults out and makes room for new ones; the count stays.
    mutating func takeFaults() -> [IOFault] { faults.take() }

    /// What is at an IO address by the page tables, whatever the IOTLB remembers.
    func lookup(_ iova: Iova) -> (frame: BusFrame, permissions: FramePermissions, isDirty: Bool)? {
        let word = tables.load(iova.page).word
        guard EntryWord.hasFrame(word) else { return nil }
        return (BusFrame(rawValue: EntryWord.frame(word)), EntryWord.permissions(word), word & Self.dirtyBit != 0)
    }

    /// Reads which of the pages the device has written, and starts over.
    mutating func takeDirty(_ iova: Iova, pages: Int) throws(DMAError) -> [Bool] {
        try check(iova, pages)
        let (start, count) = (iova.page, UInt64(pages))
        let result = (start..<start + count).map { tables.load($0).word & Self.dirtyBit != 0 }
        tables.rewrite(start, count) { $0 & ~Self.dirtyBit }
        // What is remembered as dirty would not be marked again.
        tlb.invalidate(start, count: pages)
        return result
    }

    /// Memory of the page tables, bytes.
    var tableByteCount: Int { tables.tableCount * 4096 }
    /// IO pages that could be reserved, those that wait for an invalidation not among them.
    var freePages: Int { space.freeUnits }

    // MARK: The device's side

    /// The frame behind an IO page for one access; nil, and a fault recorded, if it is refused.
    @inline(__always)
    mutating func translate(_ iova: Iova, writes: Bool) -> BusFrame? {
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

    @inline(__always)
    private mutating func walk(_ iova: Iova, _ needed: FramePermissions, _ marks: Bool) -> BusFrame? {
        statistics.misses &+= 1
        var word = tables.load(iova.page).word
        guard EntryWord.hasFrame(word) else {
            record(iova, .notMapped)
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

    private mutating func refuse(_ iova: Iova, _ writes: Bool) -> BusFrame? {
        record(iova, writes ? .writeDenied : .readDenied)
        return nil
    }

    private mutating func record(_ iova: Iova, _ cause: IOFault.Cause) {
        faults.record(IOFault(device: device, iova: iova, cause: cause))
    }

    /// The frame is mapped, but no memory is there any more.
    mutating func noMemory(at iova: Iova) { record(iova, .noMemory) }

}
