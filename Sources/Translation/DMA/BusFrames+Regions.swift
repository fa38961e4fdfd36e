// Which page of this process stands behind each of a region's frames, written run by run. Regions may share machine
// frames: a run of pages that is mapped for reading and, apart from it, for writing.

import FrameMaps
import SharedMemory

extension BusFrames {
    /// Both sides' records of a region, or neither.
    func placed(_ region: SharedRegion, _ range: FrameRange<Pfn>, _ frames: [FrameRange<BusFrame>]) -> ForeignFrames? {
        var done = 0
        do {
            let token = try map.mapForeign(range, toRuns: frames, of: 1, Self.permissions(region))
            var index = 0
            for run in frames {
                try lead(run, Self.word(region, index), small: range.count <= FrameMap.mostSingleForeign)
                done += 1
                index += Int(run.count)
            }
            return token
        } catch {
            leadNoMore(Array(frames.prefix(done)), region)
            return nil
        }
    }

    private static func permissions(_ region: SharedRegion) -> FramePermissions { region.isWritable ? .readWrite : .read }

    private static func word(_ region: SharedRegion, _ index: Int) -> UInt64 {
        EntryWord.make(EntryWord.local, page(region, index), permissions(region))
    }

    /// Makes a run of frames lead to pages; `word` is the first one's.
    private func lead(_ run: FrameRange<BusFrame>, _ word: UInt64, small: Bool) throws(RadixFull) {
        let (frame, count) = (run.start.rawValue, run.count)
        if pages.firstPresent(frame, count) == nil {
            try pages.prepareFill(frame, count, frame: EntryWord.frame(word), small: small)
            pages.fill(frame, count, word, small: small)
        } else {
            // Another region has some of them: each has a word of its own.
            try pages.prepareFill(frame, count, frame: 0, small: true)
            for step in 0..<count { lead(frame &+ step, word &+ step << frameShift) }
        }
    }

    /// Makes a frame lead to a page; with several pages behind it, to one that may be written if there is one. Its
    /// table is there.
    private func lead(_ frame: UInt64, _ word: UInt64) {
        let before = pages.load(frame).word
        if before != 0 { shared[frame, default: [before]].append(word) }
        if before == 0 || EntryWord.permissions(word).contains(.write) { pages.fill(frame, 1, word, small: true) }
    }

    /// Takes a region's frames out; those that other regions have, too, lead to the others' pages.
    func leadNoMore(_ runs: [FrameRange<BusFrame>], _ region: SharedRegion) {
        let others = FrameRange.frames(of: runs, in: shared)
        var index = 0
        for run in runs {
            let word = Self.word(region, index)
            var frame = run.start.rawValue
            for other in others[others.firstPlace(of: frame)...] {
                if other >= run.end { break }
                pages.clear(frame, other - frame)
                leadNoMore(other, word &+ (other - run.start.rawValue) << frameShift)
                frame = other + 1
            }
            pages.clear(frame, run.end - frame)
            index += Int(run.count)
        }
    }

    private func leadNoMore(_ frame: UInt64, _ word: UInt64) {
        guard var others = shared[frame] else { return pages.clear(frame, 1) }
        if let index = others.firstIndex(of: word) { others.remove(at: index) }
        let best = others.first { EntryWord.permissions($0).contains(.write) } ?? others.first
        if let best { pages.fill(frame, 1, best, small: true) }
        shared[frame] = others.count > 1 ? others : nil
    }
}
