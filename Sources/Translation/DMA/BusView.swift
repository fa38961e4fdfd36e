// The tables of a translated bus as the data path uses them: numbers and pointers, so that a transfer pays for no
// reference counts. Good as long as the `BusFrames` that it came from.

import FrameMaps
import SharedMemory

@safe
struct BusView {
    /// Bus frame to page of this process.
    let pages: RadixWindow
    /// pfn to bus frame.
    let forward: RadixWindow
    let iommu: StateReference<IommuState>?
    let frameError: UInt64

    init(pages: RadixWindow, forward: RadixWindow, iommu: StateReference<IommuState>?, frameError: UInt64) {
        self.pages = pages
        self.forward = forward
        self.iommu = iommu
        self.frameError = frameError
    }

    /// The page of this process behind an address, or nil if it faults.
    @inline(__always)
    func page(_ address: UInt64, _ writes: Bool, _ frames: borrowing BusFrames) -> UInt64? {
        var frame = address >> frameShift
        if let iommu {
            guard let found = iommu.value.translate(Iova(rawValue: address), writes: writes) else { return nil }
            frame = found.rawValue
        }
        frame &+= frameError
        var word = pages.word(frame)
        if word == 0 { word = frames.word(frame) }
        guard EntryWord.hasFrame(word), !writes || EntryWord.permissions(word).contains(.write) else {
            if let iommu { iommu.value.noMemory(at: Iova(rawValue: address)) }
            return nil
        }
        return EntryWord.frame(word)
    }

    /// Where a segment's first bytes lie in this process, and how many of them in one piece.
    @inline(__always)
    func resolve(_ segment: BusSegment, _ direction: DMADirection, _ frames: borrowing BusFrames) -> (
        memory: UnsafeMutableRawPointer, byteCount: UInt32
    )? {
        let offset = segment.address.offset
        guard segment.byteCount > 0, let first = page(segment.address.rawValue, direction.deviceWrites, frames) else { return nil }
        var count = offset.bytesLeft
        if count < UInt64(segment.byteCount) { count = contiguous(segment, direction.deviceWrites, first, count, frames) }
        let byteCount = UInt32(truncatingIfNeeded: min(count, UInt64(segment.byteCount)))
        let address = UInt(first << frameShift | UInt64(offset.rawValue))
        // SAFETY: the page is one of an attached region's, which is kept until it is detached and nothing is in flight;
        // so are those that follow it, as far as `byteCount` goes.
        return unsafe UnsafeMutableRawPointer(bitPattern: address).map { unsafe ($0, byteCount) }
    }

    /// Bytes from a segment's start that lie in one piece here, `count` of them known to.
    private func contiguous(
        _ segment: BusSegment, _ writes: Bool, _ first: UInt64, _ count: UInt64, _ frames: borrowing BusFrames
    ) -> UInt64 {
        var (count, next) = (count, first)
        while count < UInt64(segment.byteCount), let address = segment.address.advanced(by: count) {
            next += 1
            // A fault further on is met, and recorded, when the caller gets there.
            guard isMapped(address.rawValue), page(address.rawValue, writes, frames) == next else { break }
            count += frameByteCount
        }
        return count
    }

    private func isMapped(_ address: UInt64) -> Bool {
        guard let iommu else { return true }
        return iommu.value.lookup(Iova(rawValue: address)) != nil
    }
}
