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
    /// Each segment starts at a multiple of this (a power of two).
    public var minimumAlignment: UInt32
    /// Whether pages must not be shared with it beyond the bytes that it is to see.
    public var isUntrusted: Bool
    /// Whether it cannot have other domains' pages (a device that is not coherent, where the hypervisor cleans no caches for them).
    public var refusesForeign: Bool

    /// No limits unless given.
    public init(
        mask: UInt64 = .max, boundaryMask: UInt64 = .max, maximumSegmentSize: UInt32 = .max,
        maximumSegments: Int = .max,
        minimumAlignment: UInt32 = 1, isUntrusted: Bool = false, refusesForeign: Bool = false
    ) {
        self.mask = mask
        self.boundaryMask = boundaryMask
        self.maximumSegmentSize = max(1, maximumSegmentSize)
        self.maximumSegments = max(1, maximumSegments)
        self.minimumAlignment = max(1, minimumAlignment)
        self.isUntrusted = isUntrusted
        self.refusesForeign = refusesForeign
    }

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
