// Another domain's pages in a domain's map. A token owns them: while it lives they translate, and when it goes the map
// is as it was before. All of it costs what the runs of frames cost, not what the pages do.

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
    /// Foreign pages that are mapped at once have a word each, which is one load to look up, unless they are more than
    /// these: then large leaves stand where both sides are aligned.
    package static let mostSingleForeign: UInt64 = 1 << 18

    /// Maps another domain's frames, one for each page of `range`, where the domain has no pages of its own: beyond its
    /// memory, in a hole, or where it ballooned them out (all of the range alike).
    public func mapForeign(
        _ range: FrameRange<Pfn>, to frames: [BusFrame], of owner: UInt16, _ permissions: FramePermissions
    ) throws(FrameMapError) -> ForeignFrames {
        guard UInt64(frames.count) == range.count else { throw .frameCount(frames: frames.count, pages: range.count) }
        for frame in frames { try check(frame, 1) }
        return try mapForeign(range, toRuns: FrameRange.joined(frames), of: owner, permissions)
    }

    /// The same for frames that come in runs: as many frames as pages, one run after the other.
    public func mapForeign(
        _ range: FrameRange<Pfn>, toRuns runs: [FrameRange<BusFrame>], of owner: UInt16, _ permissions: FramePermissions
    ) throws(FrameMapError) -> ForeignFrames {
        try check(range)
        var total: UInt64 = 0
        for run in runs {
            try check(run.start, run.count)
            total = total.addingReportingOverflow(run.count).partialValue
            guard total <= range.count else { break }
        }
        guard total == range.count else { throw .frameCount(frames: Int(clamping: total), pages: range.count) }
        let isSmall = range.count <= Self.mostSingleForeign || FrameRange.anyOverlap(runs)
        let before = try writer.withLock { (state: inout Writer) throws(FrameMapError) -> UInt64 in
            let before = try whatStands(in: range)
            for run in runs { if let taken = firstOwn(run) { throw taken } }
            try prepareForeign(range, runs, isSmall)
            var index = range.start.rawValue
            for run in runs {
                place(run, at: index, permissions, isSmall, &state)
                index += run.count
            }
            state.foreignPages += range.count
            return before
        }
        return ForeignFrames(range: range, owner: owner, map: self, before: before)
    }

    /// The one record, or 0, that all of the range has. Throws `notBallooned`.
    private func whatStands(in range: FrameRange<Pfn>) throws(FrameMapError) -> UInt64 {
        var before: UInt64?
        var other: UInt64?
        forEachWordRun(range.start.rawValue, range.count) { run in
            if EntryWord.hasFrame(run.word) || run.word != before ?? run.word { other = run.index }
            before = run.word
            return other == nil
        }
        if let other { throw .notBallooned(Pfn(rawValue: other)) }
        return before ?? 0
    }

    /// The domain's own frame cannot be another's as well: one of the two records would be wrong.
    private func firstOwn(_ frames: FrameRange<BusFrame>) -> FrameMapError? {
        var taken: FrameMapError?
        reverse.forEachRun(frames.start.rawValue, frames.count) { run in
            if run.word != 0, EntryWord.kind(run.word) != EntryWord.foreign {
                taken = .frameInUse(BusFrame(rawValue: run.index), by: Pfn(rawValue: EntryWord.frame(run.word)))
            }
            return taken == nil
        }
        return taken ?? firstUnrecorded(frames.start.rawValue, frames.count)
    }

    private func prepareForeign(
        _ range: FrameRange<Pfn>, _ runs: [FrameRange<BusFrame>], _ isSmall: Bool
    ) throws(FrameMapError) {
        var (index, prepared) = (range.start.rawValue, 0)
        // A table that idles now must not go, and the one above with it, once that is prepared for a large leaf.
        if !isSmall {
            forward.dropIdle()
            reverse.dropIdle()
        }
        do throws(RadixFull) {
            for run in runs {
                try forward.prepareFill(index, run.count, frame: run.start.rawValue, small: isSmall)
                prepared += 1
                // Where another page has a frame of the run each needs a word of its own.
                let isShared = reverse.firstPresent(run.start.rawValue, run.count) != nil
                try reverse.prepareFill(run.start.rawValue, run.count, frame: index, small: isSmall || isShared)
                index += run.count
            }
        } catch {
            forward.dropEmpty(range.start.rawValue, range.count)
            for run in runs.prefix(prepared) { reverse.dropEmpty(run.start.rawValue, run.count) }
            throw .tableMemory(limit: forward.nodes.limit)
        }
    }

    private func place(
        _ frames: FrameRange<BusFrame>, at index: UInt64, _ permissions: FramePermissions, _ isSmall: Bool,
        _ state: inout Writer
    ) {
        let (frame, count) = (frames.start.rawValue, frames.count)
        forward.fill(index, count, EntryWord.make(EntryWord.foreign, frame, permissions), small: isSmall)
        if reverse.firstPresent(frame, count) == nil {
            reverse.fill(frame, count, EntryWord.make(EntryWord.foreign, index, permissions), small: isSmall)
            return
        }
        for step in 0..<count {
            if reverse.load(frame + step).word == 0 {
                reverse.fill(frame + step, 1, EntryWord.make(EntryWord.foreign, index + step, permissions), small: true)
            } else {
                state.duplicates[frame + step, default: []].append(index + step)
            }
        }
    }

    /// Cannot fail: a leaf of foreign pages has those of one range only, and so has its frames' leaf, unless another
    /// page has one of the frames: then they have words of their own.
    fileprivate func removeForeign(_ range: FrameRange<Pfn>, leaving before: UInt64) {
        writer.withLock { state in
            changes.wrappingAdd(1, ordering: .acquiringAndReleasing)
            var runs: [RadixRun] = []
            forEachWordRun(range.start.rawValue, range.count) { run in
                runs.append(run)
                return true
            }
            if before == 0 {
                forward.clear(range.start.rawValue, range.count)
            } else {
                forward.fill(range.start.rawValue, range.count, before, small: range.count <= Self.mostSingleForeign)
            }
            let frames = runs.compactMap { FrameRange(BusFrame(rawValue: EntryWord.frame($0.word)), count: $0.count) }
            let duplicates = FrameRange.frames(of: frames, in: state.duplicates)
            for run in runs { forget(run, duplicates, &state) }
            state.foreignPages -= range.count
            changes.wrappingAdd(1, ordering: .acquiringAndReleasing)
        }
    }

    /// Takes a run's frames out of the reverse table; those that more than one page has by themselves.
    private func forget(_ run: RadixRun, _ duplicates: [UInt64], _ state: inout Writer) {
        let first = EntryWord.frame(run.word)
        var frame = first
        for shared in duplicates[duplicates.firstPlace(of: first)...] {
            if shared >= first + run.count { break }
            reverse.clear(frame, shared - frame)
            forgetShared(shared, at: run.index + (shared - first), &state)
            frame = shared + 1
        }
        reverse.clear(frame, first + run.count - frame)
    }

    private func forgetShared(_ frame: UInt64, at index: UInt64, _ state: inout Writer) {
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

extension [UInt64] {
    /// Of ascending numbers, the place of the first that is no less.
    package func firstPlace(of number: UInt64) -> Int {
        var (low, high) = (0, count)
        while low < high {
            let middle = (low + high) / 2
            if self[middle] < number { low = middle + 1 } else { high = middle }
        }
        return low
    }
}
