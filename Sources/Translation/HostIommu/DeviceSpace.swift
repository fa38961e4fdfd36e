// One handle for VFIO type1, iommufd and the software IOMMU: memory of this process at addresses of a device, found
// again by either. Any thread; look-ups take no lock.

import DMA
import FrameMaps
import LinuxSystem
import SharedMemory
import Synchronization

/// What a device reaches, and where.
public final class DeviceSpace: Sendable, CustomStringConvertible {
    /// Which addresses are asked for.
    public enum Addresses: Sendable {
        /// May be given to a device, mapped or not.
        case allowed
        /// Never.
        case reserved
        /// Allowed, and nothing is mapped there.
        case free
    }

    /// A piece of memory that a device reaches.
    public struct Mapped: Hashable, Sendable {
        /// Where the device finds it.
        public let iova: Iova
        /// Bytes.
        public let byteCount: UInt64
        /// Where it is in this process.
        public let address: UInt64
    }

    struct Record {
        let run: MemoryRun
        let mapping: BackEndMapping
        var iova: UInt64 { mapping.address.rawValue }
        var last: UInt64 { iova + (mapping.byteCount - 1) }
        var mapped: Mapped { Mapped(iova: Iova(rawValue: iova), byteCount: mapping.byteCount, address: run.address) }
    }
    struct State {
        let backEnd: any PlacingBackEnd
        /// By ascending IO addresses.
        var records: [Record] = []
    }

    let state: Mutex<State>
    /// What may be locked for it, is, and was refused.
    public let account: LockedMemoryAccount
    /// This process's pages to the bus's, of what is mapped: a page that is mapped twice has the first of its places.
    @usableFromInline let pages: FrameMap

    /// One past the pages of a process's memory, with 48 bits of addresses.
    private static let processPages: UInt64 = 1 << 35

    /// - Parameters:
    ///   - backEnd: nobody else uses it from now on.
    ///   - account: the one that it charges.
    public init(_ backEnd: sending any PlacingBackEnd, account: LockedMemoryAccount) throws(DMABackEndError) {
        let top = (backEnd.limits.addresses.last?.upperBound ?? .max) >> frameShift
        do throws(FrameMapError) {
            pages = try FrameMap(owner: 0, model: .p2m, pfnLimit: Self.processPages, frameLimit: top + 1, tableLimit: 1 << 20)
        } catch { throw .noFrames(pages: Int(clamping: top)) }
        self.account = account
        state = Mutex(State(backEnd: backEnd))
    }

    /// Makes memory reachable for a device that moves data in `direction`, at `wanted` or an address that is chosen.
    public func map(_ run: MemoryRun, _ direction: DMADirection, at wanted: Iova? = nil) throws(DMABackEndError) -> Iova {
        try state.withLock { state throws(DMABackEndError) in
            let record = Record(run: run, mapping: try state.backEnd.map(run, direction, at: wanted))
            state.records.insert(record, at: Self.place(state.records, record.iova))
            index(record)
            return Iova(rawValue: record.iova)
        }
    }

    /// Ends every mapping that lies in a range: none is cut (`cutsMapping`). Returns how many bytes. Throws `notMapped`
    /// if there is none.
    public func unmap(_ start: Iova, byteCount: UInt64) throws(DMABackEndError) -> UInt64 {
        let (last, overflow) = start.rawValue.addingReportingOverflow(byteCount &- 1)
        guard byteCount > 0, !overflow else { throw .outsideAddresses(start, byteCount: byteCount) }
        return try state.withLock { state throws(DMABackEndError) in
            let hit = state.records.filter { $0.iova <= last && $0.last >= start.rawValue }
            for record in hit where record.iova < start.rawValue || record.last > last {
                throw .cutsMapping(start, byteCount: byteCount, mapped: record.mapped.iova, of: record.mapping.byteCount)
            }
            if hit.isEmpty { throw .notMapped }
            return try end(hit, &state)
        }
    }

    /// Ends every mapping; returns how many bytes.
    public func unmapAll() throws(DMABackEndError) -> UInt64 {
        try state.withLock { state throws(DMABackEndError) in try end(state.records, &state) }
    }

    /// Ends every mapping that has some of this memory; returns how many bytes.
    @discardableResult
    public func withdraw(_ address: UInt64, byteCount: UInt64) throws(DMABackEndError) -> UInt64 {
        try state.withLock { state throws(DMABackEndError) in
            // No sum of the two is compared: one that wraps would pass (attacks.md PM14).
            let hit = state.records.filter { record in
                let (start, count) = (record.run.address, record.run.byteCount)
                return start <= address ? address - start < count : start - address < byteCount
            }
            return try end(hit, &state)
        }
    }

    private func end(_ records: [Record], _ state: inout State) throws(DMABackEndError) -> UInt64 {
        var done: UInt64 = 0
        for record in records {
            // Nobody is told of an address that is about to be nobody's.
            forget(record)
            do throws(DMABackEndError) { try state.backEnd.unmap(record.mapping) } catch {
                index(record)
                throw error
            }
            state.records.remove(at: Self.place(state.records, record.iova))
            done += record.mapping.byteCount
            for other in state.records where Self.share(other.run, record.run) { index(other) }
        }
        return done
    }

    private static func share(_ one: MemoryRun, _ other: MemoryRun) -> Bool {
        one.address < other.address + other.byteCount && other.address < one.address + one.byteCount
    }

    /// How many of them begin below an address.
    private static func place(_ records: [Record], _ iova: UInt64) -> Int {
        var (low, high) = (0, records.count)
        while low < high {
            let middle = (low + high) / 2
            if records[middle].iova < iova { low = middle + 1 } else { high = middle }
        }
        return low
    }

    // MARK: Look-ups

    /// Where a device finds a byte of this process, and how many of `byteCount` bytes from there on lie in a row for
    /// it; nil: it does not.
    @inlinable
    public func busAddress(of address: UInt64, byteCount: UInt64 = 1) -> (iova: Iova, inRow: UInt64)? {
        let offset = address & (frameByteCount &- 1)
        let wanted = (offset &+ min(byteCount, .max &- 8191) &+ 4095) >> frameShift
        guard let found = pages.translate(Pfn(rawValue: address >> frameShift), pages: wanted) else { return nil }
        return (
            Iova(rawValue: found.frame.rawValue << frameShift | offset),
            min(byteCount, found.pageCount << frameShift &- offset)
        )
    }

    /// The byte of this process that a device finds at an address; nil: nothing is mapped there.
    public func address(of iova: Iova) -> UInt64? {
        pages.pfn(of: BusFrame(rawValue: iova.page)).map { $0.pfn.rawValue << frameShift | UInt64(iova.offset.rawValue) }
    }

    /// Puts those of a mapping's pages into the table that are not there yet.
    private func index(_ record: Record) {
        guard let range = FrameRange(Pfn(rawValue: record.run.address >> frameShift), count: UInt64(record.run.pageCount)) else {
            return
        }
        var absent: [FrameRange<Pfn>] = []
        pages.forEachRun(in: range) { run, entry in
            if case .invalid = entry { absent.append(run) }
            return true
        }
        for run in absent {
            let frame = record.iova >> frameShift + (run.start.rawValue - range.start.rawValue)
            // Without memory for a table the page is mapped, and not found by its address.
            try? pages.map(run, to: BusFrame(rawValue: frame), record.mapping.direction.permissions)
        }
    }

    private func forget(_ record: Record) {
        guard let range = FrameRange(Pfn(rawValue: record.run.address >> frameShift), count: UInt64(record.run.pageCount)) else {
            return
        }
        let first = record.iova >> frameShift
        var own: [FrameRange<Pfn>] = []
        pages.forEachRun(in: range) { run, entry in
            if case .local(let place) = entry, place.frame.rawValue >= first,
                place.frame.rawValue - first == run.start.rawValue - range.start.rawValue
            {
                own.append(run)
            }
            return true
        }
        for run in own { try? pages.unmap(run) }
    }

    // MARK: What it is

    /// What it can map.
    public var limits: DMALimits { state.withLock { $0.backEnd.limits } }
    /// Mappings, by ascending IO addresses.
    public var mapped: [Mapped] { state.withLock { $0.records.map(\.mapped) } }

    /// Addresses, ascending.
    public func addresses(_ which: Addresses) -> [ClosedRange<UInt64>] {
        state.withLock { state in
            let allowed = state.backEnd.limits.addresses
            switch which {
            case .allowed: return allowed
            case .reserved: return Self.gaps(allowed, in: [0...UInt64.max])
            case .free: return Self.gaps(state.records.map { $0.iova...$0.last }, in: allowed)
            }
        }
    }

    /// What of `ranges` is in none of `taken`; both ascend.
    static func gaps(_ taken: [ClosedRange<UInt64>], in ranges: [ClosedRange<UInt64>]) -> [ClosedRange<UInt64>] {
        var result: [ClosedRange<UInt64>] = []
        for range in ranges {
            var next: UInt64? = range.lowerBound
            for hole in taken where hole.overlaps(range) {
                if let start = next, start < hole.lowerBound { result.append(start...hole.lowerBound - 1) }
                next = hole.upperBound >= range.upperBound ? nil : hole.upperBound + 1
            }
            if let start = next, start <= range.upperBound { result.append(start...range.upperBound) }
        }
        return result
    }

    /// `vfio-type1 /dev/vfio/12: 3 mappings, …`.
    public var description: String { state.withLock { "\($0.backEnd)" } }
}
