// One device queue's bus. Each attached region gets a window of bus addresses; nothing outside a window resolves. This
// is the direct map: windows onto memory that this process has mapped. It is not an IOMMU, and it does not allocate
// memory.
//
// An address is `generation | slot | offset`. Windows start 1 TiB apart, so that running off the end of one never lands
// in another, and generation and slot are never both small, so that a raw offset or a pointer passed by mistake is a
// fault.

import FrameMaps
import SharedMemory

/// The bus that one device queue sees. Used by one thread.
///
/// SAFETY: the windows are memory of the bus's own, `capacity` of them, all initialized. A slot's number is below
/// `used`, or compared with `capacity`. A window with a key keeps its region, and `base` and `byteCount` are that
/// region's. So what resolves is mapped until the region is detached, and after that until `flights` sees that all that
/// had begun has ended, or at once where the owner knows that (`detachIdle`).
@safe
public final class MemoryBus: CustomStringConvertible {
    /// A region's place on the bus. `key` is the address's upper part, 0 when the window is free. SAFETY: `base` and
    /// `pages` are the holder's, beside them.
    @safe @usableFromInline
    struct Window {
        @usableFromInline var key: UInt64 = 0
        @usableFromInline var base: UnsafeMutableRawPointer?
        @usableFromInline var byteCount: UInt64 = 0
        @usableFromInline var isWritable = false
        var attachments = 0
        /// The region, or what keeps it in its place for a device.
        var holder: AnyObject?
        var generation: UInt64 = 0
        /// Where a device finds each of its pages; nil: there is no such device.
        var pages: UnsafeMutablePointer<DeviceAddress>?
    }

    @usableFromInline static let offsetBits: UInt64 = 40
    @usableFromInline static let slotMask: UInt64 = 0xF_FFFF

    /// The windows, grown by doubling, in memory of its own, so that `resolve` costs no exclusivity check. SAFETY: the
    /// bus frees it.
    @safe @usableFromInline
    struct WindowTable {
        @usableFromInline var windows: UnsafeMutablePointer<Window>
        @usableFromInline var capacity: Int
        init(capacity: Int) {
            self.capacity = capacity
            unsafe windows = .allocate(capacity: capacity)
            unsafe windows.initialize(repeating: Window(), count: capacity)
        }
    }
    @usableFromInline let table: UnsafeMutablePointer<WindowTable>
    private var windows: UnsafeMutablePointer<Window> { unsafe table.pointee.windows }
    private var capacity: Int { unsafe table.pointee.capacity }
    private var used = 0
    private var free: [Int] = []
    private var slots: [ObjectIdentifier: Int] = [:]
    var flights = FlightLedger()
    /// How addresses outside every window are found; nil on the direct map.
    let frames: BusFrames?
    private let view: BusView?
    /// Regions whose addresses a real device gets; nil: there is none.
    var placed: PlacedWindows?

    /// An empty bus: the direct map.
    public convenience init() { self.init(frames: nil) }

    /// An empty bus whose addresses are frames of a memory model, behind an IOMMU if there is one.
    /// Throws `noTables`.
    public convenience init(model: MemoryModel, iommu: IommuDomain? = nil, seed: UInt64 = 1) throws(DMAError) {
        self.init(frames: try BusFrames(model: model, iommu: iommu, seed: seed, name: iommu?.device ?? "bus"))
    }

    init(frames: BusFrames?) {
        self.frames = frames
        view = frames?.view
        unsafe table = .allocate(capacity: 1)
        unsafe table.initialize(to: WindowTable(capacity: 16))
    }

    deinit {
        // SAFETY: all windows are initialized; whoever had the bus's memory has no bus any more.
        unsafe windows.deinitialize(count: capacity)
        unsafe windows.deallocate()
        unsafe table.deallocate()
    }

    /// Number of regions attached.
    public var windowCount: Int { slots.count + (placed?.count ?? 0) }

    /// As `resolve`, for the part of the segment that lies in one piece in this process: on a translated bus neighbours
    /// on the bus need not be neighbours here. nil if its first byte faults.
    public func resolveRun(_ segment: BusSegment, _ direction: DMADirection) -> (
        memory: UnsafeMutableRawPointer, byteCount: UInt32
    )? {
        if let memory = unsafe resolve(segment, direction) { return unsafe (memory, segment.byteCount) }
        if let found = placed?.find(segment, direction) {
            // SAFETY: all of the segment is in the region, which stays until it is detached and nothing is in flight.
            return unsafe (found.region.unsafeBase + found.offset, segment.byteCount)
        }
        guard let view, let frames else { return nil }
        return unsafe view.resolve(segment, direction, frames)
    }

    /// Whether every byte of the segment is there for the device. Touches no memory.
    @inlinable @inline(__always)
    public func isReachable(_ segment: BusSegment, _ direction: DMADirection) -> Bool {
        unsafe resolve(segment, direction) != nil || isReachableInPieces(segment, direction)
    }

    /// The same where no window has all of the segment.
    @usableFromInline @inline(never)
    func isReachableInPieces(_ segment: BusSegment, _ direction: DMADirection) -> Bool {
        if placed != nil { return isPlaced(segment, direction) }
        guard let view, let frames else { return false }
        var rest = segment
        // No window has it: that was seen before.
        var found = unsafe view.resolve(rest, direction, frames)
        while let run = unsafe found {
            let count = unsafe run.byteCount
            guard count < rest.byteCount else { return true }
            guard let next = rest.address.advanced(by: UInt64(count)) else { return false }
            rest = BusSegment(address: next, byteCount: rest.byteCount - count)
            unsafe found = resolveRun(rest, direction)
        }
        return false
    }

    /// `bus with 3 windows`.
    public var description: String { "bus with \(windowCount) windows" }

    /// Gives `region` a window; returns the address of its first byte. The same region attached again gets the same
    /// window and is counted. Where a real device gets the addresses, a region that has no place there is at one that
    /// nothing is at.
    public func attach(_ region: SharedRegion) -> BusAddress {
        if placed != nil { return attachPlaced(region) { nil } ?? Self.nowhere }
        return attachedAgain(region) ?? open(region, nil)
    }

    /// The address of a region that has a window, which is counted once more.
    func attachedAgain(_ region: SharedRegion) -> BusAddress? {
        guard let slot = slots[ObjectIdentifier(region)] else { return nil }
        unsafe windows[slot].attachments += 1
        return BusAddress(rawValue: unsafe windows[slot].key << Self.offsetBits)
    }

    /// Gives a region that has none a window.
    /// - Parameter placed: where a device finds its pages.
    func open(_ region: SharedRegion, _ placed: PlacedRegion?) -> BusAddress {
        precondition(UInt64(region.byteCount) < 1 << Self.offsetBits, "a region larger than a bus window")
        let slot = free.popLast() ?? newSlot()
        // The generation makes an address that was kept past its window's end a fault for the next 15 users of the
        // slot.
        let generation = unsafe windows[slot].generation % 15 + 1
        let key = generation << 20 | UInt64(slot)
        unsafe windows[slot] = Window(
            key: key, base: region.unsafeBase, byteCount: UInt64(region.byteCount), isWritable: region.isWritable,
            attachments: 1, holder: placed ?? region, generation: generation, pages: placed?.pages)
        slots[ObjectIdentifier(region)] = slot
        return BusAddress(rawValue: key << Self.offsetBits)
    }

    /// Takes the window back when it has been detached as often as attached. From then on its addresses fault; the
    /// memory itself stays mapped until the operations that had begun before have ended.
    public func detach(_ region: SharedRegion) {
        if placed != nil { return detachPlaced(region) }
        if let holder = close(region) { flights.retire(holder) }
    }

    /// As `detach`, for a region whose last operation has ended, as its owner knows: nothing is kept. A grant that was
    /// mapped for one request must be unmapped before that request is answered, however many others are in flight.
    public func detachIdle(_ region: SharedRegion) { if placed?.detach(region) == nil { _ = close(region) } }

    /// Takes the window back; what kept its memory, if it was the last attachment.
    func close(_ region: SharedRegion) -> AnyObject? {
        guard let slot = slots[ObjectIdentifier(region)] else { return nil }
        unsafe windows[slot].attachments -= 1
        if unsafe windows[slot].attachments > 0 { return nil }
        let holder = unsafe windows[slot].holder
        slots[ObjectIdentifier(region)] = nil
        let generation = unsafe windows[slot].generation
        unsafe windows[slot] = Window(generation: generation)
        free.append(slot)
        return holder
    }

    /// Where `segment` lies in this process, or nil if it faults: nothing there, past the window's end, empty, or not
    /// writable though the device is to write. A few nanoseconds.
    @inlinable @inline(__always)
    public func resolve(_ segment: BusSegment, _ direction: DMADirection) -> UnsafeMutableRawPointer? {
        let key = segment.address.rawValue >> Self.offsetBits
        let slot = Int(truncatingIfNeeded: key & Self.slotMask)
        guard key != 0, unsafe slot < table.pointee.capacity else { return nil }
        // SAFETY: a slot below `capacity`. The key is that of one attachment, so `base` is there, and the segment's
        // ends lie in its region.
        let window = unsafe table.pointee.windows + slot
        let offset = segment.address.rawValue & ((1 << Self.offsetBits) &- 1)
        let count = UInt64(segment.byteCount)
        guard
            unsafe window.pointee.key == key, count > 0, unsafe offset < window.pointee.byteCount,
            unsafe count <= window.pointee.byteCount &- offset,
            unsafe direction == .toDevice || window.pointee.isWritable
        else { return nil }
        return unsafe window.pointee.base.unsafelyUnwrapped + Int(offset)
    }

    /// Whether a window has all of the piece, and lets the device do with it what it means to. As `resolve`, by the
    /// page's number: what of a number does not fit into an address is not lost on the way.
    @inlinable @inline(__always)
    func holds(_ piece: PagePiece, _ direction: DMADirection) -> Bool {
        let shift = Self.offsetBits &- frameShift
        let key = piece.pfn.rawValue >> shift
        let slot = Int(truncatingIfNeeded: key & Self.slotMask)
        guard unsafe slot < table.pointee.capacity else { return false }
        // SAFETY: a slot below `capacity`. One that is free has no bytes.
        let window = unsafe table.pointee.windows + slot
        let start = (piece.pfn.rawValue & ((1 << shift) &- 1)) << frameShift
        let end = start &+ UInt64(piece.offset) &+ UInt64(piece.byteCount)
        return unsafe window.pointee.key == key && end <= window.pointee.byteCount && piece.isWithinPage
            && (direction == .toDevice || window.pointee.isWritable)
    }

    /// Whether there is a window left for another region of so many bytes.
    func hasRoom(for region: SharedRegion) -> Bool {
        UInt64(region.byteCount) < 1 << Self.offsetBits
            && (slots[ObjectIdentifier(region)] != nil || !free.isEmpty || UInt64(used) <= Self.slotMask / 2)
    }

    private func newSlot() -> Int {
        if used == capacity { grow() }
        used += 1
        return used - 1
    }

    private func grow() {
        precondition(UInt64(capacity) <= Self.slotMask / 2, "more regions than a bus has windows")
        // SAFETY: all windows move, and the new ones are initialized, before the old place goes; nobody holds a pointer
        // to one.
        let larger = UnsafeMutablePointer<Window>.allocate(capacity: capacity * 2)
        unsafe larger.moveInitialize(from: windows, count: capacity)
        unsafe (larger + capacity).initialize(repeating: Window(), count: capacity)
        unsafe windows.deallocate()
        unsafe table.pointee.windows = larger
        unsafe table.pointee.capacity = capacity * 2
    }
}
