// A dump's pages, by the domain's number and by the machine's.

import FrameMaps

/// Which page of the file holds which pfn: runs where both go up by one, in order of pfns.
struct PagePlaces: Sendable {
    struct Run: Sendable {
        var pfn: UInt64
        var page: UInt64
        var count: UInt64
    }
    private(set) var runs: [Run] = []

    mutating func add(pfn: UInt64, page: UInt64) {
        if let last = runs.last, last.pfn &+ last.count == pfn, last.page + last.count == page {
            runs[runs.count - 1].count += 1
        } else {
            runs.append(Run(pfn: pfn, page: page, count: 1))
        }
    }

    /// A writer's tables are in order already. Of two pages for one pfn the first counts, as in the map.
    mutating func sort() {
        let isSorted = zip(runs, runs.dropFirst()).allSatisfy { $0.pfn &+ $0.count <= $1.pfn }
        if isSorted { return }
        var single: [(pfn: UInt64, page: UInt64)] = []
        for run in runs { for step in 0..<run.count { single.append((run.pfn &+ step, run.page + step)) } }
        runs = []
        single.sort { $0 < $1 }
        var last: UInt64?
        for (pfn, page) in single where pfn != last {
            add(pfn: pfn, page: page)
            last = pfn
        }
    }

    func page(of pfn: UInt64) -> UInt64? {
        var (low, high) = (0, runs.count)
        while low < high {
            let middle = (low + high) / 2
            if runs[middle].pfn <= pfn { low = middle + 1 } else { high = middle }
        }
        guard low > 0, pfn - runs[low - 1].pfn < runs[low - 1].count else { return nil }
        return runs[low - 1].page + (pfn - runs[low - 1].pfn)
    }
}

extension CoreDump {
    /// The 4096 bytes of a page; nil if the dump has no such page. An error if the file ends before it.
    public func contents(of pfn: Pfn) throws(DumpError) -> [UInt8]? {
        // What the table has beyond any domain's reach is not in the map, and no page either.
        guard table.translate(pfn) != nil, let page = places.page(of: pfn.rawValue) else { return nil }
        return try file.read(4096, at: pages.offset + page * 4096, pages.part)
    }

    /// The 4096 bytes of a machine frame of the domain; nil if it has no such frame, or if the domain is
    /// auto-translated: then nobody who reads the dump can know.
    public func contents(of frame: Mfn) throws(DumpError) -> [UInt8]? {
        guard table.map.model.knowsMachineFrames, let found = table.pfn(of: BusFrame(frame)) else { return nil }
        return try contents(of: found.pfn)
    }

    /// How many pages the domain has within the file.
    public var pageCount: UInt64 { table.usedCount }
}
