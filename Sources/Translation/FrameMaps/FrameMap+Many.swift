// Many look-ups at once. A map of a million pages does not fit in the processor's near caches, and a look-up is then a
// wait for memory. Here the words of pages that come later are asked for before they are looked at, so that the
// processor waits for many of them together.

import CLinux

extension FrameMap {
    /// How many look-ups ahead a word is asked for: about as many lines as a processor has on their way at a time.
    @usableFromInline static var ahead: Int { 24 }

    /// The bus frame of each of the pages, or nil where there is none, as `frame(of:)` has it.
    /// - Parameters:
    ///   - pfns: the pages, in any order.
    ///   - body: the page's place in `pfns` and its frame; in order.
    @inlinable @inline(__always)
    public func forEachFrame(of pfns: Span<Pfn>, _ body: (Int, BusFrame?) -> Void) {
        let ahead = Self.ahead
        for place in 0..<min(ahead, pfns.count) { forward.prefetch(pfns[place].rawValue) }
        for place in 0..<pfns.count {
            if place &+ ahead < pfns.count { forward.prefetch(pfns[place &+ ahead].rawValue) }
            body(place, frame(of: pfns[place]))
        }
    }

    /// The pfn of each of the bus frames, or nil where there is none, checked as `pfn(of:)` has it.
    /// - Parameters:
    ///   - frames: the bus frames, in any order.
    ///   - body: the frame's place in `frames` and what it is; in order.
    @inlinable @inline(__always)
    public func forEachPfn(of frames: Span<BusFrame>, _ body: (Int, ReverseTranslation?) -> Void) {
        let (ahead, half) = (Self.ahead, Self.ahead / 2)
        let count = frames.count
        // Twice as far ahead the reverse word; then, as that has come, the forward one.
        for place in 0..<min(ahead, count) { reverse.prefetch(frames[place].rawValue) }
        for place in 0..<min(half, count) { forward.prefetch(EntryWord.frame(reverse.word(frames[place].rawValue))) }
        for place in 0..<count {
            if place &+ ahead < count { reverse.prefetch(frames[place &+ ahead].rawValue) }
            if place &+ half < count { forward.prefetch(EntryWord.frame(reverse.word(frames[place &+ half].rawValue))) }
            body(place, pfn(of: frames[place]))
        }
    }
}
