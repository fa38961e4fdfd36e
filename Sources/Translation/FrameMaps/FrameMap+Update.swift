// Changing a map. Each change checks everything, takes the memory it needs, and only then begins: it happens whole or
// not at all.

import Synchronization

extension FrameMap {
    /// Maps the domain's own memory: `range` onto as many frames from `frame` on. Nothing may be mapped there, and no
    /// frame of it elsewhere.
    public func map(
        _ range: FrameRange<Pfn>, to frame: BusFrame, _ permissions: FramePermissions = .readWrite
    ) throws(FrameMapError) {
        try place(range, frame, EntryWord.local, permissions)
    }

    /// Records that `range` is no memory of the domain and has the same numbers on the bus (a device's window).
    public func mapIdentity(
        _ range: FrameRange<Pfn>, _ permissions: FramePermissions = .readWrite
    ) throws(FrameMapError) {
        try place(range, BusFrame(rawValue: range.start.rawValue), EntryWord.identity, permissions)
    }

    private func place(
        _ range: FrameRange<Pfn>, _ frame: BusFrame, _ kind: UInt64, _ permissions: FramePermissions
    ) throws(FrameMapError) {
        try writer.withLock { (_: inout Writer) throws(FrameMapError) in
            try check(range)
            try check(frame, range.count)
            let (start, count) = (range.start.rawValue, range.count)
            if let taken = firstMapped(start, count) { throw .alreadyMapped(taken) }
            if let taken = firstFrameInUse(frame.rawValue, count) { throw taken }
            let word = EntryWord.make(kind, frame.rawValue, permissions)
            if isModels(word, start, range.end) { return try forget(start, count) }
            do throws(RadixFull) {
                try forward.prepareFill(start, count, frame: frame.rawValue)
                do throws(RadixFull) {
                    try reverse.prepareFill(frame.rawValue, count, frame: start)
                } catch {
                    forward.dropEmpty(start, count)
                    throw error
                }
            } catch { throw .tableMemory(limit: forward.nodes.limit) }
            forward.fill(start, count, word)
            reverse.fill(frame.rawValue, count, EntryWord.make(kind, start, permissions))
        }
    }

    /// Whether pages from `start` to `end` with this word are what the model says of them where nothing is recorded.
    private func isModels(_ word: UInt64, _ start: UInt64, _ end: UInt64) -> Bool {
        end <= ownFrames && word == EntryWord.make(EntryWord.local, start, .readWrite)
    }

    /// Takes the records of holes and ballooned pages out, so that the model speaks: memory that comes back costs
    /// nothing again.
    private func forget(_ start: UInt64, _ count: UInt64) throws(FrameMapError) {
        do throws(RadixFull) { try forward.prepareCut(start, count) } catch { throw .tableMemory(limit: forward.nodes.limit) }
        forward.clear(start, count)
    }

    /// Changes what may be done with the pages of `range`; all must be there, foreign ones too.
    public func setPermissions(_ range: FrameRange<Pfn>, _ permissions: FramePermissions) throws(FrameMapError) {
        try writer.withLock { (_: inout Writer) throws(FrameMapError) in
            try check(range)
            let (start, count) = (range.start.rawValue, range.count)
            var missing: Pfn?
            forEachWordRun(start, count) { run in
                if !EntryWord.hasFrame(run.word) { missing = Pfn(rawValue: run.index) }
                return missing == nil
            }
            if let missing { throw .notMapped(missing) }
            // Own memory without a record gets one.
            var unrecorded: [RadixRun] = []
            if start < ownFrames {
                forward.forEachRun(start, min(count, ownFrames - start)) { run in
                    if run.word == 0 { unrecorded.append(run) }
                    return true
                }
            }
            do throws(RadixFull) {
                try forward.prepareCut(start, count)
                for run in unrecorded { try forward.prepareFill(run.index, run.count, frame: run.index) }
            } catch { throw .tableMemory(limit: forward.nodes.limit) }
            changes.wrappingAdd(1, ordering: .acquiringAndReleasing)
            for run in unrecorded {
                forward.fill(run.index, run.count, EntryWord.make(EntryWord.local, run.index, permissions))
            }
            forward.rewrite(start, count) { $0 & ~(3 << 3) | UInt64(permissions.rawValue & 3) << 3 }
            changes.wrappingAdd(1, ordering: .acquiringAndReleasing)
        }
    }

    /// Takes the domain's own pages in `range` out of the map; all must be there. They become holes.
    public func unmap(_ range: FrameRange<Pfn>) throws(FrameMapError) {
        try remove(range, leaving: ownRecord(EntryWord.hole))
    }

    /// Gives pages back: what was there goes, and foreign frames may be placed here. Holes may be ballooned, too.
    public func balloonOut(_ range: FrameRange<Pfn>) throws(FrameMapError) {
        try remove(range, leaving: EntryWord.ballooned)
    }

    /// A hole needs a record only where the model would otherwise see the domain's memory.
    private func ownRecord(_ word: UInt64) -> UInt64 { ownFrames > 0 ? word : 0 }

    private func remove(_ range: FrameRange<Pfn>, leaving word: UInt64) throws(FrameMapError) {
        try writer.withLock { (_: inout Writer) throws(FrameMapError) in
            try check(range)
            let (start, count) = (range.start.rawValue, range.count)
            if count == 0 { return }
            var problem: FrameMapError?
            var gone: [RadixRun] = []
            forEachWordRun(start, count) { run in
                switch EntryWord.kind(run.word) {
                case EntryWord.foreign: problem = .isForeign(Pfn(rawValue: run.index))
                case EntryWord.local, EntryWord.identity:
                    gone.append(run)
                    do throws(RadixFull) {
                        try reverse.prepareCut(EntryWord.frame(run.word), run.count)
                    } catch { problem = .tableMemory(limit: reverse.nodes.limit) }
                default: if word != EntryWord.ballooned { problem = .notMapped(Pfn(rawValue: run.index)) }
                }
                return problem == nil
            }
            if let problem { throw problem }
            do throws(RadixFull) {
                try forward.prepareCut(start, count)
                if word != 0 { try forward.prepareFill(start, count, frame: start) }
            } catch { throw .tableMemory(limit: forward.nodes.limit) }

            // From here on nothing fails. Forward first: a reverse look-up checks what it finds there.
            changes.wrappingAdd(1, ordering: .acquiringAndReleasing)
            if word == 0 { forward.clear(start, count) } else { forward.fill(start, count, word) }
            for run in gone { reverse.clear(EntryWord.frame(run.word), run.count) }
            changes.wrappingAdd(1, ordering: .acquiringAndReleasing)
        }
    }

    /// Runs of the range as the model sees them.
    func forEachWordRun(_ start: UInt64, _ count: UInt64, _ body: (RadixRun) -> Bool) {
        var index = start
        while index < start + count {
            let first = leaf(index)
            let most = start + count - index
            let pages =
                EntryWord.hasFrame(first.word) ? run(index, first, atMost: most) : min(max(first.pages, 1), most)
            if !body(RadixRun(index: index, word: first.word, count: pages)) { return }
            index += pages
        }
    }

    func check(_ range: FrameRange<Pfn>) throws(FrameMapError) {
        if range.end > pfnLimit { throw .pfnOutOfRange(range.last ?? range.start, limit: pfnLimit) }
    }

    func check(_ frame: BusFrame, _ count: UInt64) throws(FrameMapError) {
        if frame.rawValue > frameLimit || count > frameLimit - frame.rawValue {
            throw .frameOutOfRange(frame, limit: frameLimit)
        }
    }

    /// The first page of the range that has a frame.
    private func firstMapped(_ start: UInt64, _ count: UInt64) -> Pfn? {
        var taken: Pfn?
        forEachWordRun(start, count) { run in
            if EntryWord.hasFrame(run.word) { taken = Pfn(rawValue: run.index) }
            return taken == nil
        }
        return taken
    }

    /// The first frame of the run that some pfn has.
    private func firstFrameInUse(_ frame: UInt64, _ count: UInt64) -> FrameMapError? {
        if let taken = reverse.firstPresent(frame, count) {
            let pfn = EntryWord.frame(reverse.load(taken).word)
            return .frameInUse(BusFrame(rawValue: taken), by: Pfn(rawValue: pfn))
        }
        return firstUnrecorded(frame, count)
    }

    /// Own memory without a record has its frames too, and so has that whose record is of its permissions only.
    func firstUnrecorded(_ frame: UInt64, _ count: UInt64) -> FrameMapError? {
        var index = frame
        while index < min(frame + count, ownFrames) {
            let found = forward.load(index)
            if found.word == 0 || EntryWord.hasFrame(found.word) && EntryWord.frame(found.word) == index {
                return .frameInUse(BusFrame(rawValue: index), by: Pfn(rawValue: index))
            }
            index += max(found.pages, 1)
        }
        return nil
    }
}
