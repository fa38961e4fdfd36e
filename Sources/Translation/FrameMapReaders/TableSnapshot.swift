// A domain's p2m as it was when it was read, from a dump or from a running domain: a frame map, and what the table held
// that no frame map can.

import FrameMaps

/// A p2m, read.
public final class TableSnapshot: Sendable, CustomStringConvertible {
    /// The pages, in both directions.
    public let map: FrameMap
    /// Pages whose frame the map has at another pfn (`alias`), by pfn: `translate` knows them, the way back does not.
    public let aliases: [UInt64: UInt64]
    /// Entries of the table, unused ones included.
    public let entryCount: UInt64
    /// Entries that name a page.
    public let usedCount: UInt64
    /// What was wrong.
    public let findings: TableFindings
    /// Foreign pages' tokens: they leave the map with the snapshot.
    private let foreign: [ForeignToken]

    init(
        map: FrameMap, aliases: [UInt64: UInt64], entryCount: UInt64, usedCount: UInt64, findings: TableFindings,
        foreign: [ForeignToken]
    ) {
        self.map = map
        self.aliases = aliases
        self.entryCount = entryCount
        self.usedCount = usedCount
        self.findings = findings
        self.foreign = foreign
    }

    /// Where a page is, as `FrameMap.translate` says it, aliases included (as runs of one page). Touches no page's
    /// contents.
    public func translate(_ pfn: Pfn, _ offset: PageOffset = .zero, pages: UInt64 = 1) -> Translation? {
        if let answer = map.translate(pfn, offset, pages: pages) { return answer }
        return aliases[pfn.rawValue].map {
            Translation(frame: BusFrame(rawValue: $0), offset: offset, pageCount: 1, permissions: .readWrite)
        }
    }

    /// Which pfn has a frame; with aliases, the first of them.
    public func pfn(of frame: BusFrame) -> ReverseTranslation? { map.pfn(of: frame) }

    /// Looks through the whole table: does each frame come back, and, if `machineTable` is given, does the hypervisor's
    /// own table agree. What was found when the table was read comes first.
    /// - Parameter machineTable: the pfn that the machine's table has for a frame; nil if it has none.
    public func check(against machineTable: ((Mfn) -> UInt64?)? = nil) -> TableFindings {
        var result = findings
        for pfn in map.audit().inconsistent { result.record(.doesNotComeBack(pfn)) }
        guard let machineTable, map.model.knowsMachineFrames else { return result }
        forEachPage { pfn, entry in
            // Of a frame of another domain, or of none, Xen's table says what it likes.
            guard case .local(let answer) = entry else { return }
            let frame = answer.frame.rawValue
            let says = machineTable(Mfn(rawValue: frame))
            if says != pfn.rawValue { result.record(.machineTableDiffers(pfn, frame: frame, says: says)) }
        }
        return result
    }

    /// Every page that has a frame, in order of pfns; its entry is for that page alone.
    public func forEachPage(_ body: (Pfn, FrameEntry) -> Void) {
        guard let whole = FrameRange(Pfn(rawValue: 0), count: map.pfnLimit) else { return }
        map.forEachRun(in: whole) { range, entry in
            guard entry.translation != nil else { return true }
            for pfn in range.start.rawValue..<range.end {
                body(Pfn(rawValue: pfn), map.entry(at: Pfn(rawValue: pfn)))
            }
            return true
        }
    }

    /// `p2m of 65536 pages, 65536 entries, 0 findings`.
    public var description: String { "p2m of \(usedCount) pages, \(entryCount) entries, \(findings.count) findings" }
}

/// A foreign token that can be kept in an array.
final class ForeignToken: Sendable {
    private let token: ForeignFrames
    init(_ token: consuming ForeignFrames) { self.token = token }
}
