// The p2m as a PV domain keeps it for itself, found through the page that it shares with Xen: either a linear list,
// mapped by the domain's own page tables, or the older tree of frames. Both are read from machine frames, whoever has
// them: a running domain's, mapped, or those in a dump. Here the marks stand that a dump's table has lost: foreign and
// identity. (Xen's tools read the same: tools/libs/guest/xg_sr_common_x86_pv.c.)
//
// All of it was written by the domain and may be anything: every number is checked, and the work is bounded by the
// number of entries.

import FrameMaps

/// Where a machine frame's bytes can be had.
public protocol MachineMemory {
    /// Why they cannot.
    associatedtype Failure: Error
    /// The bytes of each frame in turn, 4096 for each; nil for one that is not the domain's or not to be had.
    func contents(of frames: [Mfn]) throws(Failure) -> [[UInt8]?]
}

/// Why a domain's own p2m cannot be read.
public enum GuestTableError: Error, Hashable, Sendable, CustomStringConvertible {
    /// The domain has not set its p2m up yet, or never will (it is not Linux, or too early).
    case notSetUp
    /// More entries than any domain has.
    case tooManyEntries(UInt64)
    /// The linear list would leave the domain's part of the address space.
    case badAddress(UInt64)
    /// A page table's entry is empty, or of a large page.
    case badEntry(level: Int, table: Mfn, index: Int, entry: UInt64)
    /// A frame on the way is not the domain's, or not in the dump.
    case unreadable(Mfn, role: String)
    /// The list's mapping changed while it was read; tried so often.
    case unstable(attempts: Int)
    /// Entries that contradict each other without end, or that need more table memory than a map may have.
    case unusable(String)

    /// What is wrong and where, in one line.
    public var description: String {
        switch self {
        case .notSetUp: "the domain has told nobody where its p2m is"
        case .tooManyEntries(let count): "the domain claims \(count) entries in its p2m; at most \(GuestTable.mostEntries) are read"
        case .badAddress(let address): "the domain's p2m at \(hexadecimal(address)) leaves its address space"
        case .badEntry(let level, let table, let index, let entry):
            "page table of level \(level) in \(table): entry \(index), \(hexadecimal(entry)), maps no page"
        case .unreadable(let frame, let role): "\(role) in \(frame) cannot be read"
        case .unstable(let attempts): "the p2m's mapping changed each of \(attempts) times that it was read; pause the domain"
        case .unusable(let why): "the p2m is no use: \(why)"
        }
    }
}

/// A PV domain's own p2m, copied: what is read of it later is what it was once.
public struct GuestTable: Sendable {
    /// Entries.
    public let entryCount: UInt64
    /// Bytes in one.
    public let width: Int
    /// Whether it was found through page tables (the linear list) or through the tree.
    public let isLinear: Bool
    /// Pages of the list that have an entry in use: the page's number, and which of the copies it is.
    private var leaves: [(page: UInt64, copy: Int)] = []
    /// The bytes of each frame of the list once, however often it is in it.
    private var copies: [[UInt8]] = []

    /// 4 TiB of pages; Linux stops at 512 GiB.
    public static let mostEntries: UInt64 = 1 << 30
    static let foreignBit: UInt64 = 1 << 63
    static let identityBit: UInt64 = 1 << 62
    /// Frames asked for at once.
    private static let batch = 1024

    /// Copies the table that `info` points to.
    /// - Parameters:
    ///   - info: where it is.
    ///   - memory: where its frames are read.
    ///   - mostPages: pages that are copied at most; more are `unusable`.
    public init<Memory: MachineMemory>(_ info: SharedInfo, in memory: Memory, mostPages: Int = .max) throws {
        entryCount = info.entryCount
        width = info.width
        isLinear = info.pageTables != 0
        guard isLinear || info.frameListList != 0 && info.frameListList != .max, info.entryCount > 0 else {
            throw GuestTableError.notSetUp
        }
        guard info.entryCount <= Self.mostEntries else { throw GuestTableError.tooManyEntries(info.entryCount) }
        let pages = (info.entryCount - 1) / info.entriesPerPage + 1
        let frames = try isLinear ? Self.listFrames(info, pages, memory) : Self.treeFrames(info, pages, memory)
        try copy(frames, memory, mostPages)
    }

    /// Copies the table of a domain that may be running: a copy during which the mapping of the list changed is thrown
    /// away.
    /// - Parameters:
    ///   - attempts: copies before giving up.
    ///   - memory: where its frames are read.
    ///   - info: the shared page as it is now; asked for before and after each copy.
    public static func stable<Memory: MachineMemory>(
        attempts: Int, in memory: Memory, info: () throws -> SharedInfo
    ) throws -> GuestTable {
        for _ in 0..<attempts {
            let before = try info()
            // Odd: a change is under way.
            if before.generation & 1 == 1 { continue }
            let outcome = Result { try GuestTable(before, in: memory) }
            // A walk that failed while the mapping changed says nothing.
            if try info() == before { return try outcome.get() }
        }
        throw GuestTableError.unstable(attempts: attempts)
    }

    // MARK: The linear list

    /// The frames of the list's pages, from the page tables that map it.
    private static func listFrames<Memory: MachineMemory>(
        _ info: SharedInfo, _ pages: UInt64, _ memory: Memory
    ) throws -> [Mfn] {
        let first = info.listAddress
        let (last, wraps) = first.addingReportingOverflow(pages << frameShift - 1)
        guard first & (frameByteCount - 1) == 0, !wraps, isGuestAddress(first, last, info.width) else {
            throw GuestTableError.badAddress(first)
        }
        // From the top down: which frames hold this level's tables, and where in the first the list begins.
        var tables = [Mfn(rawValue: info.pageTableFrame)]
        for level in stride(from: info.width == 8 ? 4 : 3, through: 1, by: -1) {
            let shift = UInt64(12 + 9 * (level - 1))
            // Nine bits and, above them, those that number the tables of this level within the range.
            let from = first >> shift, through = last >> shift
            var next: [Mfn] = []
            let lowTable = from >> 9
            try forEachFrame(tables, "a page table of level \(level)", memory) { place, table, bytes in
                let base = (lowTable + UInt64(place)) << 9
                for entry in max(from, base)...min(through, base + 511) {
                    let index = Int(entry & 511)
                    let word = bytes.number64(index * 8)
                    let frame = word >> 12 & (1 << 40 - 1)
                    // Present, and no large page: PV domains have none.
                    guard word & 1 == 1, level == 1 || word & 0x80 == 0, frame != 0 else {
                        throw GuestTableError.badEntry(level: level, table: table, index: index, entry: word)
                    }
                    next.append(Mfn(rawValue: frame))
                }
            }
            tables = next
        }
        return tables
    }

    /// Whether a range is the domain's to use: canonical, in one half, and not Xen's own.
    private static func isGuestAddress(_ first: UInt64, _ last: UInt64, _ width: Int) -> Bool {
        if width == 4 { return last < 0xF580_0000 }
        if last < 1 << 47 { return true }
        return first >= 0xFFFF_8800_0000_0000
    }

    // MARK: The tree

    private static func treeFrames<Memory: MachineMemory>(
        _ info: SharedInfo, _ pages: UInt64, _ memory: Memory
    ) throws -> [Mfn] {
        let perPage = info.entriesPerPage
        let lists = (pages - 1) / perPage + 1
        guard lists <= perPage else { throw GuestTableError.tooManyEntries(info.entryCount) }
        func numbers(_ tables: [Mfn], _ count: UInt64, _ role: String) throws -> [Mfn] {
            var result: [Mfn] = []
            try forEachFrame(tables, role, memory) { _, _, bytes in
                var place = 0
                while place < 4096, UInt64(result.count) < count {
                    result.append(Mfn(rawValue: bytes.word(place, width: info.width)))
                    place += info.width
                }
            }
            return result
        }
        let middle = try numbers([Mfn(rawValue: info.frameListList)], lists, "the list of frame lists")
        return try numbers(middle, pages, "a frame list")
    }

    /// Reads the frames in batches and hands each to `body` with its place.
    private static func forEachFrame<Memory: MachineMemory>(
        _ frames: [Mfn], _ role: String, _ memory: Memory, _ body: (Int, Mfn, [UInt8]) throws -> Void
    ) throws {
        var start = 0
        while start < frames.count {
            let part = Array(frames[start..<min(start + batch, frames.count)])
            for (step, bytes) in try memory.contents(of: part).enumerated() {
                guard let bytes else { throw GuestTableError.unreadable(part[step], role: role) }
                try body(start + step, part[step], bytes)
            }
            start += part.count
        }
    }

    // MARK: Entries

    /// Copies the list's pages. One frame that says nothing stands for most of a sparse list and is read once.
    private mutating func copy<Memory: MachineMemory>(_ frames: [Mfn], _ memory: Memory, _ mostPages: Int) throws {
        // Which copy a frame is; nil for one that says nothing.
        var known: [Mfn: Int?] = [:]
        // How much more often each copy may be in the list.
        var left: [Int] = []
        var start = 0
        while start < frames.count {
            let part = frames[start..<min(start + Self.batch, frames.count)]
            let fresh = Array(Set(part.filter { known[$0] == nil }))
            guard fresh.count <= mostPages - copies.count else {
                throw GuestTableError.unusable("more than \(mostPages) pages, which is more than a dump of this size gets")
            }
            for (frame, bytes) in zip(fresh, try memory.contents(of: fresh)) {
                guard let bytes, bytes.count == 4096 else {
                    throw GuestTableError.unreadable(frame, role: "a page of the p2m")
                }
                if bytes.allSatisfy({ $0 == 0xFF }) {
                    known.updateValue(nil, forKey: frame)
                } else {
                    known.updateValue(copies.count, forKey: frame)
                    copies.append(bytes)
                    left.append(Self.mostUses(of: bytes, width))
                }
            }
            for (page, frame) in zip(start..., part) {
                guard let copy = known[frame] ?? nil else { continue }
                left[copy] -= 1
                guard left[copy] >= 0 else {
                    throw GuestTableError.unusable("\(frame) stands for too many parts of it, and has pages in it")
                }
                leaves.append((UInt64(page), copy))
            }
            start += part.count
        }
    }

    /// How often a page of entries may be in a list of which a map can be made. Pages of the domain's own contradict
    /// each other the second time, and runs of others are remembered: a small file that names one page for ever would
    /// else be read for minutes, to be refused.
    private static func mostUses(of bytes: [UInt8], _ width: Int) -> Int {
        let perPage = 4096 / width
        for index in 0..<perPage {
            let word = bytes.word(index * width, width: width)
            if let entry = entry(0, word, width), entry.kind == .local { return SnapshotBuilder.mostConflicts / perPage }
        }
        return SnapshotBuilder.mostOthers
    }

    /// Calls `body` with every entry in use.
    func scan(_ body: (UInt64, TableEntry) -> Void) {
        let perPage = UInt64(4096 / width)
        for (page, copy) in leaves {
            let bytes = copies[copy]
            for index in page * perPage..<min((page + 1) * perPage, entryCount) {
                let word = bytes.word(Int(index % perPage) * width, width: width)
                if let entry = Self.entry(index, word, width) { body(index, entry) }
            }
        }
    }

    /// What a word says; nil for nothing. All ones has both marks set, so it is looked for first.
    static func entry(_ pfn: UInt64, _ word: UInt64, _ width: Int) -> TableEntry? {
        if word == (width == 8 ? .max : 0xFFFF_FFFF) { return nil }
        // Narrow words have their marks 32 bits further down.
        let shift: UInt64 = width == 8 ? 0 : 32
        let frame = word & ~((foreignBit | identityBit) >> shift)
        if word & foreignBit >> shift != 0 { return TableEntry(pfn: pfn, frame: frame, kind: .foreign) }
        if word & identityBit >> shift != 0 { return TableEntry(pfn: pfn, frame: frame, kind: .identity) }
        return TableEntry(pfn: pfn, frame: word)
    }

    /// The frame map that the table makes.
    /// - Parameters:
    ///   - owner: the domain's number.
    ///   - frameLimit: one past the machine's last frame, if that is known.
    ///   - tableLimit: tables of 4 KiB that each direction of the map may have; more are `unusable`.
    public func snapshot(
        owner: UInt16 = TableReading.unknownDomain, frameLimit: UInt64 = .max, tableLimit: Int = 1 << 20
    ) throws(GuestTableError) -> TableSnapshot {
        var builder = SnapshotBuilder(model: .p2m, owner: owner, frameLimit: frameLimit, tableLimit: tableLimit)
        switch builder.build(entryCount: entryCount, hasHoles: true, scan: { self.scan($0) }) {
        case .success(let table): return table
        case .failure(.tableMemory): throw .unusable("its entries need more than the \(tableLimit) tables that its map may have")
        case .failure(.tooManyOthers):
            throw .unusable("more than \(SnapshotBuilder.mostOthers) runs of pages that are not the domain's own")
        case .failure(.tooManyConflicts): throw .unusable("more than \(SnapshotBuilder.mostConflicts) entries contradict others")
        }
    }
}

extension CoreDump: MachineMemory {
    /// Frames that the dump holds.
    public func contents(of frames: [Mfn]) throws(DumpError) -> [[UInt8]?] {
        var result: [[UInt8]?] = []
        for frame in frames { result.append(try contents(of: frame)) }
        return result
    }

    /// The p2m as the dumped domain itself kept it, marks included; nil if the domain is auto-translated or the dump
    /// has no shared page. Unlike `table` this reads pages.
    public func guestTable() throws -> GuestTable? {
        guard header.kind == .paravirtual, let info = try sharedInfo() else { return nil }
        return try GuestTable(info, in: self, mostPages: file.copyLimit)
    }

    /// The frame map that the domain's own table makes, in memory that the file's size bounds.
    public func guestSnapshot() throws -> TableSnapshot? { try guestTable()?.snapshot(tableLimit: file.tableLimit) }
}
