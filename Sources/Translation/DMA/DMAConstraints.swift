// What a device can reach and take, why memory is bounced for it, and what can go wrong.

import FrameMaps

/// A device's limits.
public struct DMAConstraints: Hashable, Sendable {
    /// The largest address it can send; all ones of so many bits.
    public var mask: UInt64
    /// A segment never crosses a multiple of this plus one (all ones of so many bits; all ones for no boundary).
    public var boundaryMask: UInt64
    /// The most bytes in a segment.
    public var maximumSegmentSize: UInt32
    /// The most segments in a transfer.
    public var maximumSegments: Int
    /// Where one segment ends and another begins, both are multiples of this plus one (all ones of so many bits; 0:
    /// they may be anywhere). A page list's device has no way to say of a page in the middle that only a part of it is
    /// meant. Heeded by the device's driver, which cuts a transfer there (`partByteCount`): mapping and bouncing do
    /// not.
    public var virtualBoundaryMask: UInt64
    /// These bits of an address (all ones of so many, a page's offset at most; 0: none) are the same where memory
    /// bounces as where it is: a device that reads something out of its addresses, as page lists do of where in its
    /// page a transfer begins (Linux's `min_align_mask`). Those that `minimumAlignment` says are to be 0 are.
    public var keptAddressMask: UInt64
    /// Each segment starts at a multiple of this (a power of two), behind an IOMMU and where a run is cut, too.
    public var minimumAlignment: UInt32
    /// Whether pages must not be shared with it beyond the bytes that it is to see.
    public var isUntrusted: Bool
    /// Whether it cannot have other domains' pages (a device that is not coherent, where the hypervisor cleans no
    /// caches for them).
    public var refusesForeign: Bool

    /// No limits unless given.
    public init(
        mask: UInt64 = .max, boundaryMask: UInt64 = .max, maximumSegmentSize: UInt32 = .max,
        maximumSegments: Int = .max, virtualBoundaryMask: UInt64 = 0, keptAddressMask: UInt64 = 0,
        minimumAlignment: UInt32 = 1, isUntrusted: Bool = false, refusesForeign: Bool = false
    ) {
        self.mask = mask
        self.boundaryMask = boundaryMask
        self.maximumSegmentSize = max(1, maximumSegmentSize)
        self.maximumSegments = max(1, maximumSegments)
        self.virtualBoundaryMask = virtualBoundaryMask
        self.keptAddressMask = keptAddressMask
        self.minimumAlignment = max(1, minimumAlignment)
        self.isUntrusted = isUntrusted
        self.refusesForeign = refusesForeign
    }

    /// Throws `badConstraints` unless they are limits that a device can have.
    func check() throws(DMAError) {
        func isOnes(_ mask: UInt64) -> Bool { mask != 0 && mask & (mask &+ 1) == 0 }
        func hex(_ number: UInt64) -> String { "0x" + String(number, radix: 16) }
        if !isOnes(mask) { throw .badConstraints("a mask is all ones from below, which \(hex(mask)) is not") }
        if !isOnes(boundaryMask) {
            throw .badConstraints("a boundary mask is all ones from below, which \(hex(boundaryMask)) is not")
        }
        if virtualBoundaryMask != 0, !isOnes(virtualBoundaryMask) {
            throw .badConstraints("a virtual boundary's mask is all ones from below, which \(hex(virtualBoundaryMask)) is not")
        }
        if keptAddressMask != 0, !isOnes(keptAddressMask) || keptAddressMask >= frameByteCount {
            throw .badConstraints("bits that bouncing keeps are all ones within a page, which \(hex(keptAddressMask)) is not")
        }
        if minimumAlignment == 0 || minimumAlignment & (minimumAlignment - 1) != 0 {
            throw .badConstraints("an alignment is a power of two, which \(minimumAlignment) is not")
        }
        if maximumSegmentSize == 0 { throw .badConstraints("a segment has at least one byte") }
        if maximumSegments < 1 { throw .badConstraints("a transfer has at least one segment, not \(maximumSegments)") }
    }

    /// The most bytes that a segment may have so that, where it is cut, the next one starts aligned. Less than the
    /// alignment: nothing can be cut.
    var segmentLimit: UInt64 {
        let alignment = UInt64(minimumAlignment)
        // A boundary of less than the alignment ends each segment.
        let most = boundaryMask < alignment - 1 ? min(UInt64(maximumSegmentSize), boundaryMask + 1) : UInt64(maximumSegmentSize)
        return most >= alignment ? most & ~(alignment - 1) : most
    }

    /// Where in its page a piece that is at `offset` of its own begins when it bounces, and which bits of its address
    /// that is about; behind an IOMMU, whose unit is a page, all of them if they may be what they are.
    @inline(__always)
    func bouncePlace(_ offset: UInt32, behindIommu: Bool) -> (mask: UInt64, wanted: UInt64) {
        let (alignment, offset) = (UInt64(minimumAlignment) - 1, UInt64(offset))
        let mask = behindIommu && offset & alignment == 0 ? frameByteCount - 1 : keptAddressMask
        return (behindIommu ? frameByteCount - 1 : max(alignment, mask), offset & mask & ~alignment)
    }

    /// Pages from one aligned IO page to the next.
    var alignmentPages: Int { max(1, Int(minimumAlignment >> 12)) }

    /// Whether there is nothing to heed.
    var isNone: Bool { self == DMAConstraints() }
    /// Whether no page bounces, wherever it is.
    @inline(__always)
    var isFree: Bool { mask == .max && minimumAlignment == 1 && !isUntrusted && !refusesForeign }
    /// Whether a run is never cut.
    @inline(__always)
    var cutsNothing: Bool { boundaryMask == .max && maximumSegmentSize == .max }
}

/// Why something was not mapped, unmapped or synchronized. Nothing was changed.
public enum DMAError: Error, Hashable, Sendable, CustomStringConvertible {
    /// Nothing is at this page.
    case noSuchPage(Pfn)
    /// The device was to write a page that is read-only.
    case notWritable(Pfn)
    /// A piece that is empty or leaves its page.
    case badPiece(offset: Int, byteCount: Int)
    /// The transfer must be bounced and there is no pool for it.
    case needsBounce(BounceReason)
    /// The pool is full: its name, the slots in use and all of them, and the most bytes that would be had now.
    case poolFull(name: String, used: Int, slots: Int, largest: Int)
    /// The IO address space is full: pages asked for.
    case noIova(pages: Int, largest: Int)
    /// The IO page tables may not grow any more.
    case tableMemory
    /// The mapping does not exist: never made, or unmapped already.
    case notMapped
    /// Another direction than it was mapped for.
    case wrongDirection
    /// Ended as another kind than it was made: a transfer, coherent memory, a reservation.
    case wrongKind
    /// Something is linked at this IO address already.
    case alreadyLinked(Iova)
    /// No memory, or no bus addresses below the device's mask.
    case noMemory(byteCount: Int)
    /// Memory for something's own tables cannot be had: whose, of what, and how many bytes were asked for.
    case noTables(name: String, of: String, byteCount: Int)
    /// A bounce pool of so many bytes has no place below the device's mask.
    case noPool(name: String, byteCount: Int, mask: UInt64)
    /// A driver left with mappings that it had not ended.
    case leaked(DMALeak)
    /// No number of pages, bytes or pieces: it is zero or negative, or more than there can be.
    case badCount(Int)
    /// An IO address that is no page's start.
    case misaligned(Iova)
    /// Pages of the IO address space that it does not have; it has so many.
    case outsideSpace(Iova, pages: Int, limit: UInt64)
    /// Frames beyond the 64-bit address space.
    case frameOutOfRange(BusFrame, pages: Int)
    /// No reservation of so many pages begins there: never made, or given back already.
    case notReserved(Iova, pages: Int)
    /// Limits that no device has: which, and why.
    case badConstraints(String)
    /// Beyond the mapping's bytes.
    case outsideMapping(offset: Int, byteCount: Int, mapped: Int)

    /// One line that names what is wrong.
    public var description: String {
        switch self {
        case .noSuchPage(let pfn): "nothing is mapped at \(pfn)"
        case .notWritable(let pfn): "\(pfn) is read-only"
        case .badPiece(let offset, let count): "\(count) bytes at offset \(offset) are not a part of a page"
        case .needsBounce(let reason): "the transfer needs a bounce pool (\(reason))"
        case .poolFull(let name, let used, let slots, let largest):
            "bounce pool \(name) has \(used) of \(slots) slots in use; the largest request that fits is \(largest) bytes"
        case .noIova(let pages, let largest):
            "no \(pages) pages of IO address space; the largest run is \(largest) pages"
        case .tableMemory: "the IO page tables may not grow"
        case .notMapped: "no such mapping (never made, or unmapped already)"
        case .wrongDirection: "mapped for another direction"
        case .wrongKind: "mapped as something else"
        case .alreadyLinked(let iova): "\(iova) is linked already"
        case .noMemory(let count): "no memory of \(count) bytes that the device can reach"
        case .noTables(let name, let what, let count): "\(name): no memory of \(count) bytes for \(what)"
        case .noPool(let name, let count, let mask):
            "bounce pool \(name): no place for \(count) bytes below the device's mask of 0x\(String(mask, radix: 16))"
        case .leaked(let leak): "\(leak)"
        case .badCount(let count): "\(count) is no number of pages, bytes or pieces that can be had"
        case .misaligned(let iova): "\(iova) is not the start of a page"
        case .outsideSpace(let iova, let pages, let limit):
            "\(pages) pages at \(iova) are not within the \(limit) pages of the IO address space"
        case .frameOutOfRange(let frame, let pages): "\(pages) frames from \(frame) on leave the 64-bit address space"
        case .notReserved(let iova, let pages):
            "no reservation of \(pages) page\(pages == 1 ? "" : "s") begins at \(iova) (never made, or given back already)"
        case .badConstraints(let why): "the device's limits: \(why)"
        case .outsideMapping(let offset, let count, let mapped): "\(count) bytes at \(offset) of a mapping of \(mapped)"
        }
    }
}

/// What a driver left behind.
public struct DMALeak: Hashable, Sendable, CustomStringConvertible {
    /// Mappings not ended.
    public var count: Int
    /// One of them.
    public var exampleByteCount: Int
    /// Which way it moved data.
    public var exampleDirection: DMADirection
    /// `3 mappings were never ended, one of them of 4096 bytes, to device`.
    public var description: String {
        "\(count) mapping\(count == 1 ? " was" : "s were") never ended, one of them of \(exampleByteCount) bytes, \(exampleDirection)"
    }
}
