// How a domain's memory lies: runs that are contiguous for the domain and on the bus, holes, and how much of it could
// be mapped with large pages.

import FrameMaps

/// How contiguous a map's pages are.
public struct Contiguity: Hashable, Sendable {
    /// A maximal run of pages of one kind whose frames go up by one.
    public struct Run: Hashable, Sendable {
        /// The first page.
        public var pfn: UInt64
        /// Its frame.
        public var frame: UInt64
        /// How many.
        public var pages: UInt64
        /// Of which kind they all are.
        public var kind: TableEntry.Kind
    }
    /// Runs of 2^n to 2^(n+1) − 1 pages, for n from 0 on.
    public struct Class: Hashable, Sendable {
        /// Runs of such a length.
        public var runs: UInt64 = 0
        /// The pages in them.
        public var pages: UInt64 = 0
    }
    /// Pages of the domain's own memory.
    public private(set) var local: UInt64 = 0
    /// Pages that are no memory.
    public private(set) var identity: UInt64 = 0
    /// Pages of other domains.
    public private(set) var foreign: UInt64 = 0
    /// Runs in all.
    public private(set) var runs: UInt64 = 0
    /// The longest run, the first of several; nil if there is no page.
    public private(set) var longest: Run?
    /// By `log2` of their length.
    public private(set) var classes: [Class] = []
    /// Pages between the first and the last one that have no frame.
    public private(set) var holes: UInt64 = 0
    /// The pieces that those are in.
    public private(set) var gaps: UInt64 = 0
    /// The first page with a frame.
    public private(set) var firstPfn: UInt64?
    /// The last one.
    public private(set) var lastPfn: UInt64?
    /// The smallest frame.
    public private(set) var lowestFrame: UInt64?
    /// The largest one.
    public private(set) var highestFrame: UInt64?
    /// Aligned pieces of 2 MiB that could be mapped by one entry of an IOMMU.
    public private(set) var largePages: UInt64 = 0

    /// Pages with a frame.
    public var pages: UInt64 { local + identity + foreign }

    /// Looks through the whole map: one step a run.
    public init(_ map: FrameMap) {
        forEachRun(of: map) { add($0) }
    }

    private mutating func add(_ run: Run) {
        if let last = lastPfn, run.pfn > last + 1 {
            holes += run.pfn - last - 1
            gaps += 1
        }
        if firstPfn == nil { firstPfn = run.pfn }
        lastPfn = run.pfn + run.pages - 1
        lowestFrame = min(lowestFrame ?? run.frame, run.frame)
        highestFrame = max(highestFrame ?? 0, run.frame + run.pages - 1)
        switch run.kind {
        case .local: local += run.pages
        case .identity: identity += run.pages
        case .foreign: foreign += run.pages
        }
        runs += 1
        if run.pages > longest?.pages ?? 0 { longest = run }
        let size = 63 - run.pages.leadingZeroBitCount
        while classes.count <= size { classes.append(Class()) }
        classes[size].runs += 1
        classes[size].pages += run.pages
        if run.pfn & 511 == run.frame & 511 {
            let start = (run.pfn + 511) & ~511, end = (run.pfn + run.pages) & ~511
            if end > start { largePages += (end - start) / 512 }
        }
    }
}

/// Calls `body` for each maximal run of a map that has frames, in order of pfns.
public func forEachRun(of map: FrameMap, _ body: (Contiguity.Run) -> Void) {
    guard let whole = FrameRange(Pfn(rawValue: 0), count: map.pfnLimit) else { return }
    map.forEachRun(in: whole) { range, entry in
        guard let answer = entry.translation else { return true }
        let kind: TableEntry.Kind
        switch entry {
        case .identity: kind = .identity
        case .foreign: kind = .foreign
        default: kind = .local
        }
        body(Contiguity.Run(pfn: range.start.rawValue, frame: answer.frame.rawValue, pages: range.count, kind: kind))
        return true
    }
}
