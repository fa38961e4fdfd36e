// From a table's entries to a frame map. The entries are gone through twice: the first time to learn how far they
// reach, the second time to map them, run by run. What does not fit is a finding, and the rest is read.

import FrameMaps

struct SnapshotBuilder {
    let model: MemoryModel
    let owner: UInt16
    /// One past the machine's last frame, if that is known.
    let frameLimit: UInt64
    /// Tables that each direction of the map may have.
    let tableLimit: Int

    /// One past the largest number that is believed: 256 TiB of pages, the reach of 48 bits. A map pays a little for
    /// its reach, and a damaged file must not set the price.
    static let widest: UInt64 = 1 << 36
    /// A table with more than this many entries that contradict each other is no table, and remembering them would take
    /// any amount of memory.
    static let mostConflicts = 1 << 18
    /// Runs of foreign and identity pages: each is remembered, and foreign ones have tokens.
    static let mostOthers = 1 << 18

    private var findings = TableFindings()
    private var aliases: [UInt64: UInt64] = [:]
    private var used: UInt64 = 0
    private var others: [Run] = []
    /// One past the domain's last own page.
    private var ownEnd: UInt64 = 0

    /// Entries whose pfns and frames both go up by one.
    private struct Run {
        var pfn: UInt64
        var frame: UInt64
        var count: UInt64
        var kind: TableEntry.Kind
    }

    init(model: MemoryModel, owner: UInt16, frameLimit: UInt64 = .max, tableLimit: Int) {
        self.model = model
        self.tableLimit = tableLimit
        self.owner = owner
        self.frameLimit = min(frameLimit, Self.widest)
    }

    /// Why a table could not be made into a map at all.
    enum Refusal: Error, CustomStringConvertible {
        case tableMemory
        case tooManyConflicts
        case tooManyOthers

        var description: String {
            switch self {
            case .tableMemory: "the map's tables would need more memory than they may have"
            case .tooManyConflicts: "too many pages share a frame"
            case .tooManyOthers: "too many pages are none of the domain's own"
            }
        }
    }

    /// - Parameters:
    ///   - hasHoles: entries that are not in use may stand anywhere, not only at the end.
    ///   - scan: calls its argument with number and entry for each one in use, in the table's order; called twice.
    mutating func build<Failure: Error>(
        entryCount: UInt64, hasHoles: Bool, findings before: TableFindings = TableFindings(),
        scan: ((UInt64, TableEntry) -> Void) throws(Failure) -> Void
    ) throws(Failure) -> Result<TableSnapshot, Refusal> {
        findings = before
        var (pfnEnd, frameEnd): (UInt64, UInt64) = (0, 0)
        try scan { _, entry in
            guard isInRange(entry) else { return }
            pfnEnd = max(pfnEnd, entry.pfn + 1)
            frameEnd = max(frameEnd, entry.frame + 1)
        }
        guard
            let map = try? FrameMap(
                owner: owner, model: model, pfnLimit: pfnEnd, frameLimit: frameEnd, tableLimit: tableLimit)
        else { return .failure(.tableMemory) }
        var run: Run?
        var last: UInt64?
        var skipped: UInt64 = 0
        var refusal: Refusal?
        try scan { index, entry in
            if refusal != nil { return }
            if !hasHoles && index != used + skipped {
                findings.record(.afterUnused(entry: index))
                skipped = index - used
            }
            used += 1
            if let last, entry.pfn < last { findings.record(.notAscending(entry: index)) }
            last = entry.pfn
            guard isInRange(entry) else {
                findings.record(
                    entry.pfn >= Self.widest
                        ? .pfnOutOfRange(entry.pfn, entry: index)
                        : .frameOutOfRange(Pfn(rawValue: entry.pfn), frame: entry.frame))
                return
            }
            if var current = run, entry.kind == current.kind, entry.pfn == current.pfn + current.count,
                entry.frame == current.frame + current.count
            {
                current.count += 1
                run = current
            } else {
                if let done = run { refusal = place(done, map) }
                run = Run(pfn: entry.pfn, frame: entry.frame, count: 1, kind: entry.kind)
            }
        }
        if let run, refusal == nil { refusal = place(run, map) }
        if let refusal { return .failure(refusal) }
        var foreign: [ForeignToken] = []
        for run in others {
            if let refusal = placeOther(run, map, &foreign) { return .failure(refusal) }
        }
        return .success(
            TableSnapshot(
                map: map, aliases: aliases, entryCount: entryCount, usedCount: used, findings: findings, foreign: foreign))
    }

    /// What is no memory may lie beyond it.
    func isInRange(_ entry: TableEntry) -> Bool {
        entry.pfn < Self.widest && entry.frame < (entry.kind == .local ? frameLimit : Self.widest)
    }

    /// Maps a run of the domain's own memory; keeps others until that is all there.
    private mutating func place(_ run: Run, _ map: FrameMap) -> Refusal? {
        if run.kind != .local {
            others.append(run)
            return others.count > Self.mostOthers ? .tooManyOthers : nil
        }
        guard let range = FrameRange(Pfn(rawValue: run.pfn), count: run.count) else { return nil }
        ownEnd = max(ownEnd, run.pfn + run.count)
        do throws(FrameMapError) {
            if !hasAlias(run) {
                try map.map(range, to: BusFrame(rawValue: run.frame))
                return nil
            }
        } catch .tableMemory {
            return .tableMemory
        } catch {}
        if run.count == 1 { return contradiction(run, map) }
        // Some page of it contradicts another: page by page.
        for step in 0..<run.count {
            let page = Run(pfn: run.pfn + step, frame: run.frame + step, count: 1, kind: .local)
            if let refusal = place(page, map) { return refusal }
        }
        return nil
    }

    /// Whether a page of the run was an alias before: the first entry counts.
    private func hasAlias(_ run: Run) -> Bool {
        if aliases.isEmpty { return false }
        let pfns = run.pfn..<run.pfn + run.count
        return aliases.count < pfns.count ? aliases.keys.contains(where: pfns.contains) : pfns.contains { aliases[$0] != nil }
    }

    private mutating func contradiction(_ page: Run, _ map: FrameMap) -> Refusal? {
        let pfn = Pfn(rawValue: page.pfn)
        if let first = map.frame(of: pfn)?.rawValue ?? aliases[page.pfn] {
            findings.record(.duplicate(pfn, frame: page.frame, first: first))
        } else if let holder = map.pfn(of: BusFrame(rawValue: page.frame)) {
            findings.record(.alias(pfn, frame: page.frame, first: holder.pfn))
            aliases[page.pfn] = page.frame
        }
        return findings.count > Self.mostConflicts ? .tooManyConflicts : nil
    }

    /// Maps pages that are no memory of the domain's own.
    private mutating func placeOther(_ run: Run, _ map: FrameMap, _ foreign: inout [ForeignToken]) -> Refusal? {
        guard let range = FrameRange(Pfn(rawValue: run.pfn), count: run.count) else { return nil }
        do throws(FrameMapError) {
            if run.kind == .identity && run.pfn == run.frame {
                try map.mapIdentity(range)
            } else {
                guard let frames = FrameRange(BusFrame(rawValue: run.frame), count: run.count) else { return nil }
                // The table does not say whose the pages are nor what may be done with them: the least is taken.
                foreign.append(ForeignToken(try map.mapForeign(range, toRuns: [frames], of: TableReading.unknownDomain, .read)))
            }
            return nil
        } catch .tableMemory {
            return .tableMemory
        } catch {
            // Linux fills what is left of its last leaf with identity, whatever is there in the machine.
            if run.kind == .identity, run.pfn == run.frame, run.pfn >= ownEnd, run.count == 1 { return nil }
            if run.count == 1 {
                let pfn = Pfn(rawValue: run.pfn)
                let holder = map.pfn(of: BusFrame(rawValue: run.frame))?.pfn
                if let first = map.frame(of: pfn)?.rawValue {
                    findings.record(.duplicate(pfn, frame: run.frame, first: first))
                } else {
                    findings.record(.conflict(pfn, frame: run.frame, with: holder ?? pfn))
                }
                return findings.count > Self.mostConflicts ? .tooManyConflicts : nil
            }
        }
        for step in 0..<run.count {
            let page = Run(pfn: run.pfn + step, frame: run.frame + step, count: 1, kind: run.kind)
            if let refusal = placeOther(page, map, &foreign) { return refusal }
        }
        return nil
    }
}

/// Numbers that every reader uses.
public enum TableReading {
    /// Xen's number for "some domain, nobody knows which" (DOMID_INVALID).
    public static let unknownDomain: UInt16 = 0x7FF4
}
