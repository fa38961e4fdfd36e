// Pieces that go through the pool: what is remembered of each, and the copies.

import FrameMaps

/// One piece that goes through the pool.
struct Bounce {
    var slot: BounceSlot
    var pfn: Pfn
    var offset: UInt32
    var byteCount: UInt32
    /// Where in the slot, and where in the transfer, its bytes are.
    var slotOffset: UInt32
    var transferOffset: UInt64
    /// Whether it is the one that gives the slot back.
    var ownsSlot: Bool
    var reason: BounceReason
    var next: Int32

    static let none = Bounce(
        slot: BounceSlot(arena: 0, order: 0, start: 0, offset: 0), pfn: Pfn(rawValue: 0), offset: 0, byteCount: 0, slotOffset: 0,
        transferOffset: 0, ownsSlot: false, reason: .mask, next: -1)
}

extension DMADevice {
    /// Fills the slot, whichever way the device moves data, and remembers the piece.
    @inline(__always)
    func bounce(
        _ piece: PagePiece, _ slot: BounceSlot, slotOffset: UInt32, ownsSlot: Bool, _ reason: BounceReason,
        _ work: inout MappingWork
    ) {
        let bounce = Bounce(
            slot: slot, pfn: piece.pfn, offset: piece.offset, byteCount: piece.byteCount, slotOffset: slotOffset,
            transferOffset: work.byteCount, ownsSlot: ownsSlot, reason: reason, next: work.firstBounce)
        copy(bounce, .toDevice, 0..<UInt64.max)
        let index = hot.value.bounces.add()
        hot.value.bounces[index] = bounce
        work.firstBounce = index
        work.reasons.insert(BounceReasons(reason))
    }

    /// Gives back a list of bounces.
    /// - Parameter written: so many of the transfer's first bytes, which the device has written, reach their pages.
    func endBounces(_ first: Int32, copyingBack written: UInt64) {
        guard let pool = hot.value.pool else { return }
        var place = first
        while place >= 0 {
            let bounce = hot.value.bounces[place]
            if written > 0 { copy(bounce, .fromDevice, 0..<written) }
            hot.value.bounces.remove(place)
            place = bounce.next
            if bounce.ownsSlot { pool.value.giveBack(bounce.slot) }
        }
    }

    /// Copies the part of a bounced piece that lies in `range` of the transfer.
    @inline(__always)
    func copy(_ bounce: Bounce, _ direction: DMADirection, _ range: Range<UInt64>) {
        let start = max(bounce.transferOffset, range.lowerBound)
        let end = min(bounce.transferOffset &+ UInt64(bounce.byteCount), range.upperBound)
        guard start < end, let view = hot.value.view, let pool = hot.value.pool else { return }
        let within = Int(truncatingIfNeeded: start &- bounce.transferOffset)
        // The page itself, as this process has it: not by way of the device's IOMMU.
        let frame = word(of: bounce.pfn, view)
        // SAFETY: the piece lies in its page (`MappingWork` saw to that), and `start..<end` in the piece, whose slot is
        // lent until the mapping ends.
        guard EntryWord.hasFrame(frame),
            let page = unsafe memory(EntryWord.frame(frame), view, writes: direction == .fromDevice)
        else { return }
        let memory = unsafe page + (Int(bounce.offset) &+ within)
        let offset = Int(bounce.slotOffset) &+ within
        if direction == .fromDevice {
            unsafe pool.value.copyOut(bounce.slot, offset, to: memory, Int(end &- start))
        } else {
            unsafe pool.value.copyIn(bounce.slot, offset, from: memory, Int(end &- start))
        }
    }

    /// What the frame map has at a page.
    @inline(__always)
    func word(of pfn: Pfn, _ view: BusView) -> UInt64 {
        let word = view.forward.word(pfn.rawValue)
        return word != 0 ? word : slowWord(of: pfn)
    }

    private func slowWord(of pfn: Pfn) -> UInt64 {
        guard let answer = frames?.map.translate(pfn) else { return 0 }
        return EntryWord.make(EntryWord.foreign, answer.frame.rawValue, answer.permissions)
    }

    /// A frame's page as this process has it; nil if there is none, or it is read-only and to be written.
    @inline(__always)
    func memory(_ frame: UInt64, _ view: BusView, writes: Bool) -> UnsafeMutableRawPointer? {
        var word = view.pages.word(frame)
        if word == 0 { word = frames?.word(frame) ?? 0 }
        guard EntryWord.hasFrame(word), !writes || EntryWord.permissions(word).contains(.write) else { return nil }
        // SAFETY: only entries of attached regions' pages, and of the pool's own, are in this table; `BusFrames` takes
        // them out before it lets go.
        return unsafe UnsafeMutableRawPointer(bitPattern: UInt(EntryWord.frame(word) << frameShift))
    }
}
