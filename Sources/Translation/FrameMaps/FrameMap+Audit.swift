// Looking through a whole map: is it consistent, and what is in it. Takes the writer's lock; costs one look-up a page
// mapped.

/// What an audit found.
public struct FrameMapAudit: Hashable, Sendable {
    /// Pages by what stands there.
    public var local: UInt64 = 0
    /// Identity entries.
    public var identity: UInt64 = 0
    /// Other domains' frames.
    public var foreign: UInt64 = 0
    /// Pages given back to the hypervisor.
    public var ballooned: UInt64 = 0
    /// Runs that are contiguous on the bus.
    public var runs: UInt64 = 0
    /// Pages of the longest.
    public var longestRun: UInt64 = 0
    /// pfns whose frame does not come back to them (foreign frames mapped more than once excepted).
    public var inconsistent: [Pfn] = []
}

extension FrameMap {
    /// Checks `P2M[M2P[m]] == m` for every page mapped, and counts.
    public func audit() -> FrameMapAudit {
        var result = FrameMapAudit()
        writer.withLock { state in
            guard let whole = FrameRange(Pfn(rawValue: 0), count: pfnLimit) else { return }
            forEachRun(in: whole) { range, entry in
                switch entry {
                case .invalid: return true
                case .ballooned:
                    result.ballooned += range.count
                    return true
                case .local: result.local += range.count
                case .identity: result.identity += range.count
                case .foreign: result.foreign += range.count
                }
                result.runs += 1
                result.longestRun = max(result.longestRun, range.count)
                var index = range.start.rawValue
                while index < range.end {
                    let (pages, isGood) = comesBack(index, state)
                    if !isGood { result.inconsistent.append(Pfn(rawValue: index)) }
                    index += min(pages, range.end - index)
                }
                return true
            }
        }
        return result
    }

    /// Whether the pages from `index` on come back, and how many of them one look in each direction tells about.
    private func comesBack(_ index: UInt64, _ state: borrowing Writer) -> (pages: UInt64, isGood: Bool) {
        let there = leaf(index)
        let frame = EntryWord.frame(there.word)
        guard let back = pfn(of: BusFrame(rawValue: frame)) else { return (1, false) }
        if back.pfn.rawValue != index { return (1, back.isForeign && state.duplicates[frame]?.contains(index) == true) }
        return (max(1, min(there.pages, reverse.load(frame).pages)), true)
    }
}
