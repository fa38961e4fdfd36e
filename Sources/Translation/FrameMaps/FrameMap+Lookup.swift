// Both directions' look-ups. Constant time, no lock, any thread.

extension FrameMap {
    /// The recorded word, or what the model says where nothing is recorded.
    @inlinable @inline(__always)
    func leaf(_ pfn: UInt64) -> RadixLeaf {
        let found = forward.load(pfn)
        if found.word != 0 || pfn >= ownFrames { return found }
        // Nothing recorded in the domain's own memory: its number is its frame.
        return RadixLeaf(
            word: EntryWord.make(EntryWord.local, pfn, .readWrite), pages: min(found.pages, ownFrames &- pfn))
    }

    /// The bus frame at `pfn`, or nil if there is none.
    @inlinable @inline(__always)
    public func frame(of pfn: Pfn) -> BusFrame? {
        // As few instructions as there can be: the more look-ups the processor holds, the more of them wait for memory
        // at the same time.
        let word = forward.word(pfn.rawValue)
        if _fastPath(EntryWord.hasFrame(word)) { return BusFrame(rawValue: EntryWord.frame(word)) }
        return frameElsewhere(pfn)
    }

    /// The same where the window does not say.
    @usableFromInline @inline(never)
    func frameElsewhere(_ pfn: Pfn) -> BusFrame? {
        let word = leaf(pfn.rawValue).word
        return EntryWord.hasFrame(word) ? BusFrame(rawValue: EntryWord.frame(word)) : nil
    }

    /// The machine frame at `pfn`; nil if there is none, or if the model does not know it.
    @inlinable public func machineFrame(of pfn: Pfn) -> Mfn? {
        guard model.knowsMachineFrames, let frame = frame(of: pfn) else { return nil }
        return Mfn(rawValue: frame.rawValue)
    }

    /// What the domain calls `pfn` when it talks to the hypervisor.
    @inlinable public func guestFrame(of pfn: Pfn) -> Gfn? {
        guard let frame = frame(of: pfn) else { return nil }
        return Gfn(rawValue: model == .p2m ? frame.rawValue : pfn.rawValue)
    }

    /// Where a byte of `pfn` is on the bus, and how many of the next `pages` pages are contiguous with it. nil if there
    /// is nothing.
    @inlinable @inline(__always)
    public func translate(_ pfn: Pfn, _ offset: PageOffset = .zero, pages: UInt64 = 1) -> Translation? {
        let first = leaf(pfn.rawValue)
        guard EntryWord.hasFrame(first.word) else { return nil }
        let run = pages <= first.pages ? max(pages, 1) : run(pfn.rawValue, first, atMost: pages)
        return Translation(
            frame: BusFrame(rawValue: EntryWord.frame(first.word)), offset: offset, pageCount: run,
            permissions: EntryWord.permissions(first.word))
    }

    @usableFromInline
    func run(_ index: UInt64, _ first: RadixLeaf, atMost most: UInt64) -> UInt64 {
        var pages = min(first.pages, most)
        while pages < most {
            let next = leaf(index &+ pages)
            if next.pages == 0 || next.word != first.word &+ pages << frameShift { break }
            pages &+= min(next.pages, most &- pages)
        }
        return max(pages, 1)
    }

    /// What stands at `pfn`, whatever it is.
    public func entry(at pfn: Pfn) -> FrameEntry {
        let leaf = leaf(pfn.rawValue)
        let answer = Translation(
            frame: BusFrame(rawValue: EntryWord.frame(leaf.word)), offset: .zero, pageCount: 1,
            permissions: EntryWord.permissions(leaf.word))
        return switch EntryWord.kind(leaf.word) {
        case EntryWord.ballooned: .ballooned
        case EntryWord.identity: .identity(answer)
        case EntryWord.local: .local(answer)
        case EntryWord.foreign: .foreign(answer)
        default: .invalid
        }
    }

    /// The pfn of a bus frame: found in the reverse map and checked against the forward one, so that an entry which
    /// only one of them has (a change under way) is no answer. Foreign frames come back to their local pfn; with
    /// several, to one of them.
    @inlinable @inline(__always)
    public func pfn(of frame: BusFrame) -> ReverseTranslation? {
        let now = generation
        let found = reverse.word(frame.rawValue)
        if _fastPath(found != 0) {
            let pfn = EntryWord.frame(found)
            let word = forward.word(pfn)
            if _fastPath(EntryWord.hasFrame(word) && EntryWord.frame(word) == frame.rawValue) {
                return ReverseTranslation(
                    pfn: Pfn(rawValue: pfn), isForeign: EntryWord.kind(word) == EntryWord.foreign, generation: now)
            }
        }
        return pfnElsewhere(frame)
    }

    /// The same where the windows do not say.
    @usableFromInline @inline(never)
    func pfnElsewhere(_ frame: BusFrame) -> ReverseTranslation? {
        let now = generation
        let found = reverse.load(frame.rawValue).word
        let pfn = found == 0 ? frame.rawValue : EntryWord.frame(found)
        // With no record only the domain's own, unrecorded memory remains: `leaf` says whether this is it.
        if found == 0 && frame.rawValue >= ownFrames { return nil }
        let word = leaf(pfn).word
        guard EntryWord.hasFrame(word), EntryWord.frame(word) == frame.rawValue else { return nil }
        return ReverseTranslation(
            pfn: Pfn(rawValue: pfn), isForeign: EntryWord.kind(word) == EntryWord.foreign, generation: now)
    }

    /// Every run of the range: present or not, so that all of a range's misses are known at once. Runs are maximal.
    /// - Parameters:
    ///   - range: what is looked through, in order.
    ///   - body: the first pfn, the pages, and what stands there (its `pageCount` is 1); return false to stop.
    public func forEachRun(in range: FrameRange<Pfn>, _ body: (FrameRange<Pfn>, FrameEntry) -> Bool) {
        var index = range.start.rawValue
        let end = min(range.end, pfnLimit)
        while index < end {
            let first = leaf(index)
            var pages = min(first.pages, end - index)
            if EntryWord.hasFrame(first.word) {
                pages = run(index, first, atMost: end - index)
            } else {
                while index + pages < end, case let next = leaf(index + pages), next.word == first.word {
                    pages += max(next.pages, 1)
                }
                pages = min(pages, end - index)
            }
            guard let run = FrameRange(Pfn(rawValue: index), count: pages) else { return }
            if !body(run, entry(at: run.start)) { return }
            index += pages
        }
    }
}
