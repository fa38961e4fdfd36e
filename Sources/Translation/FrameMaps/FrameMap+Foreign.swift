// Another domain's pages in a domain's map. A token owns them: while it lives they translate, and when it goes the map
// is as it was before.

import Synchronization

/// Foreign frames in a map, owned: they leave the map exactly once, when `unmap` consumes the token or when it goes out
/// of scope. Use after that does not compile. Bus addresses made from them earlier are nothing in the map any more.
public struct ForeignFrames: ~Copyable, Sendable {
    /// Where they are in the local domain.
    public let range: FrameRange<Pfn>
    /// Whose they are.
    public let owner: UInt16
    let map: FrameMap
    /// What stood in each place before: a record, or 0.
    let before: UInt64

    /// Takes the frames out of the map again; every page is what it was before.
    public consuming func unmap() {}

    deinit { map.removeForeign(range, leaving: before) }
}

extension FrameMap {
    /// Maps another domain's frames, one for each page of `range`, where the domain has no pages of its own: beyond its
    /// memory, in a hole, or where it ballooned them out (all of the range alike).
    public func mapForeign(
        _ range: FrameRange<Pfn>, to frames: [BusFrame], of owner: UInt16, _ permissions: FramePermissions
    ) throws(FrameMapError) -> ForeignFrames {
        guard UInt64(frames.count) == range.count else { throw .frameCount(frames: frames.count, pages: range.count) }
        let before = try writer.withLock { (state: inout Writer) throws(FrameMapError) -> UInt64 in
            try check(range)
            let (start, count) = (range.start.rawValue, range.count)
            let before = count == 0 ? 0 : leaf(start).word
            for index in start..<start + count {
                let word = leaf(index).word
                if EntryWord.hasFrame(word) || word != before { throw .notBallooned(Pfn(rawValue: index)) }
            }
            for frame in frames {
                try check(frame, 1)
                // The domain's own frame cannot be another's as well: one of the two records would be wrong.
                if let own = pfn(of: frame), !own.isForeign { throw .frameInUse(frame, by: own.pfn) }
            }
            try prepareForeign(start, count, frames)
            for (index, frame) in zip(start..., frames) {
                forward.fill(index, 1, EntryWord.make(EntryWord.foreign, frame.rawValue, permissions), small: true)
                if reverse.load(frame.rawValue).word == 0 {
                    reverse.fill(frame.rawValue, 1, EntryWord.make(EntryWord.foreign, index, permissions), small: true)
                } else {
                    state.duplicates[frame.rawValue, default: []].append(index)
                }
            }
            state.foreignPages += count
            return before
        }
        return ForeignFrames(range: range, owner: owner, map: self, before: before)
    }

    private func prepareForeign(_ start: UInt64, _ count: UInt64, _ frames: [BusFrame]) throws(FrameMapError) {
        var prepared = 0
        do throws(RadixFull) {
            try forward.prepareFill(start, count, frame: start, small: true)
            for frame in frames {
                try reverse.prepareFill(frame.rawValue, 1, frame: start, small: true)
                prepared += 1
            }
        } catch {
            forward.dropEmpty(start, count)
            for frame in frames.prefix(prepared) { reverse.dropEmpty(frame.rawValue, 1) }
            throw .tableMemory(limit: forward.nodes.limit)
        }
    }

    /// Cannot fail: foreign pages have leaves of their own, which need no splitting.
    fileprivate func removeForeign(_ range: FrameRange<Pfn>, leaving before: UInt64) {
        writer.withLock { state in
            changes.wrappingAdd(1, ordering: .acquiringAndReleasing)
            for index in range.start.rawValue..<range.end {
                let frame = EntryWord.frame(forward.load(index).word)
                if before == 0 { forward.clear(index, 1) } else { forward.fill(index, 1, before, small: true) }
                forgetForeign(frame, at: index, &state)
            }
            state.foreignPages -= range.count
            changes.wrappingAdd(1, ordering: .acquiringAndReleasing)
        }
    }

    private func forgetForeign(_ frame: UInt64, at index: UInt64, _ state: inout Writer) {
        let isNamed = EntryWord.frame(reverse.load(frame).word) == index
        guard var others = state.duplicates[frame] else {
            if isNamed { reverse.clear(frame, 1) }
            return
        }
        if isNamed, let heir = others.popLast() {
            reverse.rewrite(frame, 1) { EntryWord.make(EntryWord.kind($0), heir, EntryWord.permissions($0)) }
        } else if let place = others.firstIndex(of: index) {
            others.swapAt(place, others.count - 1)
            others.removeLast()
        }
        state.duplicates[frame] = others.isEmpty ? nil : others
    }
}
