// What is made reachable for a device, and where the device then finds it.

import DMA
import FrameMaps
import SharedMemory

/// Whole pages of memory of this process, side by side. Keeps the memory mapped.
public struct MemoryRun: Sendable, CustomStringConvertible {
    /// The memory they are part of.
    public let region: SharedRegion
    /// The first page, counted from the region's start.
    public let firstPage: Int
    /// How many; at least 1.
    public let pageCount: Int

    /// nil unless `pages` is at least one page and lies within the region; without `pages` all of it.
    public init?(_ region: SharedRegion, pages: Range<Int>? = nil) {
        let pages = pages ?? 0..<region.pageCount
        guard !pages.isEmpty, pages.lowerBound >= 0, pages.upperBound <= region.pageCount else { return nil }
        self.region = region
        firstPage = pages.lowerBound
        pageCount = pages.count
    }

    /// Bytes.
    public var byteCount: UInt64 { UInt64(pageCount) << frameShift }
    /// Where they start in this process.
    public var address: UInt64 {
        region.address + UInt64(firstPage) << frameShift
    }
    /// `4 pages at 0x7f…`.
    public var description: String { "\(pageCount) page\(pageCount == 1 ? "" : "s") at 0x\(String(address, radix: 16))" }
}

/// Memory that a device reaches, until it is unmapped: once, by the back end that mapped it.
public struct BackEndMapping: Hashable, Sendable, CustomStringConvertible {
    /// Where the device finds it, in order. One segment from a back end that can make memory contiguous, if it has less
    /// than 4 GiB.
    public let segments: [BusSegment]
    /// Which way the device moves data.
    public let direction: DMADirection
    /// Bytes in all.
    public let byteCount: UInt64
    /// Which back end's it is, and which of that one's mappings.
    let owner: UInt64
    let serial: UInt64

    init(segments: [BusSegment], direction: DMADirection, byteCount: UInt64, owner: UInt64, serial: UInt64) {
        self.segments = segments
        self.direction = direction
        self.byteCount = byteCount
        self.owner = owner
        self.serial = serial
    }

    /// The first byte's address on the bus; for a mapping of one run also that of the others.
    public var address: BusAddress { segments[0].address }

    /// `8192 bytes at 0x100000`.
    public var description: String { "\(byteCount) bytes at \(segments[0].address)" }

    /// A contiguous run as segments, none longer than a segment's count can say.
    static func segments(from start: UInt64, byteCount: UInt64) -> [BusSegment] {
        let most: UInt64 = 0xFFFF_F000
        return stride(from: UInt64(0), to: byteCount, by: Int(most)).map { offset in
            BusSegment(
                address: BusAddress(rawValue: start + offset),
                byteCount: UInt32(truncatingIfNeeded: min(most, byteCount - offset)))
        }
    }
}

extension DMADirection {
    /// Whether the device writes memory.
    var writesMemory: Bool { self != .toDevice }
    /// What the device may do.
    var permissions: FramePermissions {
        switch self {
        case .toDevice: .read
        case .fromDevice: .write
        case .bidirectional: .readWrite
        }
    }
    /// Whether the device reads memory.
    var readsMemory: Bool { self != .fromDevice }
}
