// One piece of a request's buffer: part of one granted page. Also the pages of such pieces that indirect requests name.

import SharedMemory
import XenTypes

/// Part of a granted page, as the peer described it (`struct blkif_request_segment`): unvalidated.
public struct BlockSegment: Hashable, Sendable, BitwiseCopyable, CustomStringConvertible {
    /// The page.
    public var reference: GrantReference
    /// First 512-byte sector of the page, inclusive.
    public var first: UInt8
    /// Last 512-byte sector of the page, inclusive.
    public var last: UInt8

    /// A piece of the page `reference`; `0...7` is all of it.
    @inlinable
    public init(_ reference: GrantReference, first: UInt8 = 0, last: UInt8 = 7) {
        self.reference = reference
        self.first = first
        self.last = last
    }

    /// Bytes of a segment in every ABI, with two of padding.
    @inlinable public static var size: Int { 8 }

    /// Takes a segment from the 8 bytes that describe it; the padding is dropped.
    @inlinable @inline(__always)
    public init(word: UInt64) {
        reference = GrantReference(UInt32(truncatingIfNeeded: word))
        first = UInt8(truncatingIfNeeded: word >> 32)
        last = UInt8(truncatingIfNeeded: word >> 40)
    }

    /// The 8 bytes that describe it, padding zero.
    @inlinable @inline(__always)
    public var word: UInt64 { UInt64(reference.rawValue) | UInt64(first) << 32 | UInt64(last) << 40 }

    /// `grant 17 sectors 0-7`.
    public var description: String { "grant \(reference) sectors \(first)-\(last)" }
}

/// A page of segments, as an indirect request refers to it.
public enum IndirectPage {
    /// Appends `count` segments of the page at `offset` to `segments`, each shared byte loaded once.
    /// - Parameter count: at most 512; the page must lie in the region.
    @inlinable
    public static func load(
        _ region: SharedRegion, at offset: Int, count: Int, appendingTo segments: inout [BlockSegment]
    ) {
        precondition(count <= BlockLimits.segmentsPerIndirectPage, "more segments than a page holds")
        var chunk = InlineArray<32, UInt64>(repeating: 0)
        var done = 0
        while done < count {
            let now = min(32, count - done)
            region.copyIn(offset + done * BlockSegment.size, into: &chunk, byteCount: now * BlockSegment.size)
            for index in 0..<now { segments.append(BlockSegment(word: chunk[index])) }
            done += now
        }
    }

    /// Stores `segments` (at most 512) into the page at `offset`, padding zero.
    @inlinable
    public static func store(_ segments: ArraySlice<BlockSegment>, in region: SharedRegion, at offset: Int) {
        precondition(segments.count <= BlockLimits.segmentsPerIndirectPage, "more segments than a page holds")
        var place = offset
        for segment in segments {
            region.store(segment.word, at: place)
            place += BlockSegment.size
        }
    }
}
