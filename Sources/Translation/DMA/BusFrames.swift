// The memory that a translated bus leads to: which page of this process stands behind a bus frame. Frames are given out
// here as a machine would: under P2M scattered by a seed, so that neighbours for the domain are none on the bus; under
// P==M and VP by the domain's own numbers.
//
// Own frames (the bounce pool, coherent memory) lie below 4 GiB and in one run; foreign ones above, so that a device
// with a 32-bit mask reaches none of them without help.

import FrameMaps
import SharedMemory

@safe
final class BusFrames {
    let map: FrameMap
    let iommu: IommuDomain?
    /// Bus frame to page of this process.
    let pages: RadixTable
    private let own: UnitAllocator
    private let foreign: UnitAllocator
    private var places: [ObjectIdentifier: Place] = [:]
    /// Machine frames that came by more than one region (a run mapped for reading and, apart from it, for writing):
    /// each one's word.
    var shared: [UInt64: [UInt64]] = [:]
    /// Which pages transfers have.
    let uses: PageUses
    /// Regions taken away while a device still had pages of them.
    private(set) var detachedInUse: UInt64 = 0
    /// See `DMAOptions`.
    private let frameError: UInt64
    private let scatter: FrameScatter

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
        let frames: [FrameRange<BusFrame>]
        var token: ForeignFrames?
        init(
            _ region: SharedRegion, _ range: FrameRange<Pfn>, order: Int, _ frames: [FrameRange<BusFrame>],
            _ token: consuming ForeignFrames
        ) {
            self.region = region
            self.range = range
            self.order = order
            self.frames = frames
            self.token = consume token
        }
    }

    /// - Parameter name: the device, for errors. Throws `noTables`.
    init(model: MemoryModel, iommu: IommuDomain?, seed: UInt64, frameError: UInt64 = 0, name: String) throws(DMAError) {
        self.frameError = frameError
        let limit = Self.firstForeign + Self.foreignCount
        // All that can fail first: members without copies cannot be half made.
        let own = try UnitAllocator(capacity: Int(Self.firstForeign), of: "own frames", name: name)
        let foreign = try UnitAllocator(capacity: Int(Self.foreignCount), of: "foreign frames", name: name)
        let uses = try PageUses(limit: limit, name: name)
        let map = try tables(of: limit, name) { () throws(FrameMapError) in
            try FrameMap(owner: 0, model: model, pfnLimit: limit, frameLimit: limit, ownFrames: 0)
        }
        let pages = try tables(of: limit, name) { () throws(FrameMapError) in
            try RadixTable(limit: limit, tableLimit: 1 << 20)
        }
        self.own = own
        self.foreign = foreign
        self.uses = uses
        self.map = map
        self.pages = pages
        // Frame 0 is never given out; whole arenas begin at multiples of their size.
        _ = self.own.allocate(order: 0)
        self.iommu = iommu
        scatter = FrameScatter(seed: seed)
    }

    /// Puts another domain's region into the frame map; nil if frame numbers or table memory have run out, or a machine
    /// frame is not another domain's to give. Counted.
    /// - Parameter machine: each page's machine frame, as the hypervisor says; not used under `vp`, where nobody knows
    ///   it.
    func attach(_ region: SharedRegion, machine: @autoclosure () -> [UInt64]? = nil) -> Pfn? {
        if let place = places[ObjectIdentifier(region)] {
            place.count += 1
            return place.range.start
        }
        let order = UnitAllocator.order(region.pageCount)
        guard let start = foreign.allocate(order: order) else { return nil }
        let first = Pfn(rawValue: Self.firstForeign + UInt64(start))
        guard let range = FrameRange(first, count: UInt64(region.pageCount)),
            let frames = scatter.runs(of: range, map.model, machine: map.model == .vp ? nil : machine())
        else {
            foreign.release(start, order: order)
            return nil
        }
        guard let token = placed(region, range, frames) else {
            foreign.release(start, order: order)
            return nil
        }
        places[ObjectIdentifier(region)] = Place(region, range, order: order, frames, token)
        return first
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
        leadNoMore(place.frames, region)
        if uses.isUsed(place.range.start.rawValue, place.range.count) {
            // A driver's error. The numbers are nobody's from now on: a late unmap must not copy into another region.
            detachedInUse += 1
            return true
        }
        foreign.release(Int(place.range.start.rawValue - Self.firstForeign), order: place.order)
        return true
    }

    /// Gives own memory a run of frames below `mask`; nil if there is none.
    /// - Parameter pages: what the run's number is aligned to, if that is more than the region's own: a power of two.
    func addOwn(_ region: SharedRegion, pages count: Int = 0, mask: UInt64) -> BusFrame? {
        let order = UnitAllocator.order(max(region.pageCount, count))
        // First fit from below.
        guard let start = own.allocate(order: order) else { return nil }
        let frame = UInt64(start)
        guard (frame + UInt64(region.pageCount)) << frameShift - 1 <= mask else {
            own.release(start, order: order)
            return nil
        }
        do throws(RadixFull) {
            try pages.prepareFill(frame, UInt64(region.pageCount), frame: 0, small: true)
        } catch {
            own.release(start, order: order)
            return nil
        }
        pages.fill(
            frame, UInt64(region.pageCount), EntryWord.make(EntryWord.local, Self.page(region, 0), .readWrite), small: true)
        // No page is handed on with what another had in it (attacks.md PM13).
        region.fill(0, count: region.byteCount)
        return BusFrame(rawValue: frame)
    }

    /// Takes own memory's frames back; `pages` as for `addOwn`.
    func removeOwn(_ frame: BusFrame, _ region: SharedRegion, pages count: Int = 0) {
        pages.clear(frame.rawValue, UInt64(region.pageCount))
        own.release(Int(frame.rawValue), order: UnitAllocator.order(max(region.pageCount, count)))
    }

    /// The number of one of a region's pages in this process.
    static func page(_ region: SharedRegion, _ index: Int) -> UInt64 {
        // SAFETY: an address as a number.
        UInt64(UInt(bitPattern: unsafe region.unsafeBase)) >> frameShift + UInt64(index)
    }

    /// A frame's page as this process has it; nil if there is none, or it is read-only and to be written.
    func memory(_ frame: BusFrame, writes: Bool) -> UnsafeMutableRawPointer? {
        let word = pages.load(frame.rawValue).word
        guard EntryWord.hasFrame(word), !writes || EntryWord.permissions(word).contains(.write) else { return nil }
        // SAFETY: an attached region's page: `places` and the pool keep the regions, and a page's entry goes before its
        // region does.
        return unsafe UnsafeMutableRawPointer(bitPattern: UInt(EntryWord.frame(word) << frameShift))
    }

    /// What the device's side needs of this.
    var view: BusView {
        BusView(pages: pages.view, forward: map.forwardView, iommu: iommu?.state.reference, frameError: frameError)
    }

    /// The word of a bus frame's page, also where there is no window.
    func word(_ frame: UInt64) -> UInt64 { pages.load(frame).word }
}

/// Makes a frame map's tables; what is missing is told of the device.
private func tables<Made: ~Copyable>(
    of frames: UInt64, _ name: String, _ make: () throws(FrameMapError) -> Made
) throws(DMAError) -> Made {
    do throws(FrameMapError) { return try make() } catch {
        throw .noTables(name: name, of: "a map of \(frames) frames", byteCount: error.byteCount)
    }
}
