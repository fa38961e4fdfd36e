// The driver's own look at the pages that it lends to its device: by their numbers, through the frame map, and never by
// way of the device's IO address space. Bulk data: each byte of a page that a peer writes may be loaded more than once,
// so only a copy may be decided on.

import FrameMaps
import SharedMemory

extension DMADevice {
    /// Where a piece lies in this process, all of its bytes; nil if there is no such page, or it is read-only and to be
    /// written. Good until the region is detached.
    @unsafe
    @inline(__always)
    public func memory(_ piece: PagePiece, writing: Bool) -> UnsafeMutableRawPointer? {
        // SAFETY: on the direct map the bus has looked at the piece's ends; else they lie in one page, which is an
        // attached region's.
        guard let view = hot.value.view else {
            guard piece.pfn.rawValue < frameNumberLimit, UInt64(piece.offset) < frameByteCount else { return nil }
            let address = BusAddress(rawValue: piece.pfn.rawValue << frameShift | UInt64(piece.offset))
            return unsafe bus.resolve(
                BusSegment(address: address, byteCount: piece.byteCount), writing ? .fromDevice : .toDevice)
        }
        guard piece.isWithinPage else { return nil }
        let word = word(of: piece.pfn, view)
        guard EntryWord.hasFrame(word), !writing || EntryWord.permissions(word).contains(.write),
            let page = unsafe memory(EntryWord.frame(word), view, writes: writing)
        else { return nil }
        return unsafe page + Int(piece.offset)
    }

    /// Copies a piece's bytes to `offset` of `region`; false if there is no such page, or no room for them there.
    @inline(__always)
    public func read(_ piece: PagePiece, into region: SharedRegion, at offset: Int) -> Bool {
        guard offset >= 0 && Int(piece.byteCount) <= region.byteCount - offset else { return false }
        // SAFETY: `byteCount` bytes are in the region, as checked, and at `memory`, which stays attached for the call.
        guard let memory = unsafe memory(piece, writing: false) else { return false }
        unsafe (region.unsafeBase + offset).copyMemory(from: memory, byteCount: Int(piece.byteCount))
        return true
    }

    /// Copies the bytes at `offset` of `region` to a piece; false if there is no such page, it may not be written, or
    /// there are not so many bytes.
    @inline(__always)
    public func write(_ piece: PagePiece, from region: SharedRegion, at offset: Int) -> Bool {
        guard offset >= 0 && Int(piece.byteCount) <= region.byteCount - offset else { return false }
        // SAFETY: `byteCount` bytes are in the region, as checked, and at `memory`, which stays attached for the call.
        guard let memory = unsafe memory(piece, writing: true) else { return false }
        unsafe memory.copyMemory(from: region.unsafeBase + offset, byteCount: Int(piece.byteCount))
        return true
    }

    /// Copies a piece's bytes to the start of `page`; false if there is no such page, or it may not be written.
    public func copy(_ piece: PagePiece, to page: Pfn) -> Bool {
        let target = PagePiece(pfn: page, offset: 0, byteCount: piece.byteCount)
        // SAFETY: both pieces have `byteCount` bytes, and stay attached for the call; a memmove, for they may overlap.
        guard let source = unsafe memory(piece, writing: false), let destination = unsafe memory(target, writing: true) else {
            return false
        }
        unsafe destination.copyMemory(from: source, byteCount: Int(piece.byteCount))
        return true
    }
}
