// The memory that a translated bus leads to: which page of this process stands behind a bus frame. Frames are given out here as a machine
// would: under P2M scattered by a seed, so that neighbours for the domain are none on the bus; under P==M and VP by the domain's own numbers.
//
// Own frames (the bounce pool, coherent memory) lie below 4 GiB and in one run; foreign ones above, so that a device with a 32-bit mask
// reaches none of them without help.

import FrameMaps
import SharedMemory

@safe
final class BusFrames {
    let map: FrameMap
    let iommu: IommuDomain?
    /// Bus frame to page of this process.
    private let pages: RadixTable
    private let own = UnitAllocator(capacity: Int(BusFrames.firstForeign) - 1)
    private let foreign = UnitAllocator(capacity: Int(BusFrames.foreignCount))
    private var places: [ObjectIdentifier: Place] = [:]
    /// See `DMAOptions`.
    var frameError: UInt64 = 0
    private let multiplier: UInt64
    private let addend: UInt64

    /// pfn 4 GiB: from here on frames are foreign.
    static let firstForeign: UInt64 = 1 << 20
    /// Room for 64 GiB of foreign pages at once.
    static let foreignCount: UInt64 = 1 << 24

    /// What is kept for an attached region.
    private final class Place {
        let region: SharedRegion
        var count = 1
        let range: FrameRange<Pfn>
        let order: Int
        let frames: [BusFrame]
        var token: ForeignFrames?
        init(
            _ region: SharedRegion, _ range: FrameRange<Pfn>, order: Int, _ frames: [BusFrame],
            _ token: consuming ForeignFrames
        ) {
            self.region = region
            self.range = range
            self.order = order
            self.frames = frames
            self.token = consume token
        }
    }

    init(model: MemoryModel, iommu: IommuDomain?, seed: UInt64) {
        let limit = Self.firstForeign + Self.foreignCount
        map = FrameMap(owner: 0, model: model, pfnLimit: limit, frameLimit: limit, ownFrames: 0)
        pages = RadixTable(limit: limit, tableLimit: 1 << 20)
        self.iommu = iommu
        // An odd factor makes `i * factor + addend` a permutation of 2^24 numbers; a large one sends neighbours far apart.
        multiplier = (seed &* 0x9E37_79B9_7F4A_7C15) >> 40 | 0x40_0001
        addend = seed &* 0xBF58_476D_1CE4_E5B9
    }

    /// The frame that a domain's page gets.
    private func frame(for pfn: UInt64) -> BusFrame {
        guard map.model == .p2m else { return BusFrame(rawValue: pfn) }
        let number = (pfn - Self.firstForeign) &* multiplier &+ addend
        return BusFrame(rawValue: Self.firstForeign + number & (Self.foreignCount - 1))
    }

    /// Puts another domain's region into the frame map; nil if frame numbers or table memory have run out. Counted.
    func attach(_ region: SharedRegion) -> Pfn? {
        if let place = places[ObjectIdentifier(region)] {
            place.count += 1
            return place.range.start
        }
        let order = UnitAllocator.order(region.pageCount)
        guard let start = foreign.allocate(order: order) else { return nil }
        let first = Pfn(rawValue: Self.firstForeign + UInt64(start))
        guard let range = FrameRange(first, count: UInt64(region.pageCount)) else { return nil }
        let frames = (first.rawValue..<range.end).map(frame(for:))
        let permissions: FramePermissions = region.isWritable ? .readWrite : .read
        do {
            let token = try map.mapForeign(range, to: frames, of: 1, permissions)
            for (index, frame) in frames.enumerated() {
                try pages.prepareFill(frame.rawValue, 1, frame: 0, small: true)
                pages.fill(
                    frame.rawValue, 1, EntryWord.make(EntryWord.local, page(region, index), permissions), small: true)
            }
            places[ObjectIdentifier(region)] = Place(region, range, order: order, frames, token)
            return first
        } catch {
            for frame in frames { pages.clear(frame.rawValue, 1) }
            foreign.release(start, order: order)
            return nil
        }
    }

    /// Takes it out again when it has been detached as often as attached; true if that was now.
    func detach(_ region: SharedRegion) -> Bool {
        guard let place = places[ObjectIdentifier(region)] else { return false }
        place.count -= 1
        if place.count > 0 { return false }
        places[ObjectIdentifier(region)] = nil
        // The IOTLB must forget the frames before they can be anybody else's (attacks.md PM1).
        iommu?.flush()
        place.token = nil
        for frame in place.frames { pages.clear(frame.rawValue, 1) }
        foreign.release(Int(place.range.start.rawValue - Self.firstForeign), order: place.order)
        return true
    }

    /// Gives own memory a run of frames below `mask`; nil if there is none.
    func addOwn(_ region: SharedRegion, mask: UInt64) -> BusFrame? {
        let order = UnitAllocator.order(region.pageCount)
        // First fit from below: frame 0 is never given out.
        guard let start = own.allocate(order: order) else { return nil }
        let frame = UInt64(start) + 1
        guard (frame + UInt64(region.pageCount)) << frameShift - 1 <= mask else {
            own.release(start, order: order)
            return nil
        }
        do throws(RadixFull) {
            try pages.prepareFill(frame, UInt64(region.pageCount), frame: 0, small: true)
        } catch { return nil }
        pages.fill(
            frame, UInt64(region.pageCount), EntryWord.make(EntryWord.local, page(region, 0), .readWrite), small: true)
        return BusFrame(rawValue: frame)
    }

    /// Takes own memory's frames back.
    func removeOwn(_ frame: BusFrame, _ region: SharedRegion) {
        pages.clear(frame.rawValue, UInt64(region.pageCount))
        own.release(Int(frame.rawValue) - 1, order: UnitAllocator.order(region.pageCount))
    }

    private func page(_ region: SharedRegion, _ index: Int) -> UInt64 {
        UInt64(UInt(bitPattern: unsafe region.unsafeBase)) >> frameShift + UInt64(index)
    }

    /// Where a segment's first bytes lie in this process, and how many of them in one piece.
    func resolve(_ segment: BusSegment, _ direction: DMADirection) -> (
        memory: UnsafeMutableRawPointer, byteCount: UInt32
    )? {
        let offset = segment.address.offset
        let writes = direction == .fromDevice
        guard segment.byteCount > 0, let first = page(segment.address.rawValue, writes) else { return nil }
        var count = offset.bytesLeft
        var next = first
        while count < UInt64(segment.byteCount), let address = segment.address.advanced(by: count) {
            next += 1
            // A fault further on is met, and recorded, when the caller gets there.
            guard isMapped(address.rawValue), page(address.rawValue, writes) == next else { break }
            count += frameByteCount
        }
        let byteCount = UInt32(truncatingIfNeeded: min(count, UInt64(segment.byteCount)))
        let address = UInt(first << frameShift | UInt64(offset.rawValue))
        // SAFETY: the page is one of an attached region's, which is kept until it is detached and nothing is in flight.
        return unsafe UnsafeMutableRawPointer(bitPattern: address).map { unsafe ($0, byteCount) }
    }

    /// A frame's page as this process has it; nil if there is none, or it is read-only and to be written.
    func memory(_ frame: BusFrame, writes: Bool) -> UnsafeMutableRawPointer? {
        let word = pages.load(frame.rawValue).word
        guard EntryWord.hasFrame(word), !writes || EntryWord.permissions(word).contains(.write) else { return nil }
        return unsafe UnsafeMutableRawPointer(bitPattern: UInt(EntryWord.frame(word) << frameShift))
    }

    private func isMapped(_ address: UInt64) -> Bool { iommu.map { $0.lookup(Iova(rawValue: address)) != nil } ?? true }

    /// The page of this process behind an address, or nil if it faults.
    @inline(__always)
    private func page(_ address: UInt64, _ writes: Bool) -> UInt64? {
        let iova = Iova(rawValue: address)
        let frame: BusFrame
        if let iommu {
            guard let found = iommu.translate(iova, writes: writes) else { return nil }
            frame = found
        } else {
            frame = BusFrame(rawValue: address >> frameShift)
        }
        let word = pages.load(frame.rawValue &+ frameError).word
        guard EntryWord.hasFrame(word), !writes || EntryWord.permissions(word).contains(.write) else {
            iommu?.noMemory(at: iova)
            return nil
        }
        return EntryWord.frame(word)
    }
}
