// What can go wrong when a frame map is changed. Look-ups do not throw: they answer with nothing.

/// Why a frame map was not changed. Nothing was changed when it is thrown.
public enum FrameMapError: Error, Hashable, Sendable, CustomStringConvertible {
    /// A pfn beyond the map's limit.
    case pfnOutOfRange(Pfn, limit: UInt64)
    /// A bus frame beyond the map's limit.
    case frameOutOfRange(BusFrame, limit: UInt64)
    /// Something is mapped there already.
    case alreadyMapped(Pfn)
    /// Nothing is mapped there, or not what the operation is about.
    case notMapped(Pfn)
    /// The frame is mapped at another pfn of this domain.
    case frameInUse(BusFrame, by: Pfn)
    /// A foreign frame may only be placed where the domain has no page of its own.
    case notBallooned(Pfn)
    /// A foreign mapping needs one frame for each of its pages.
    case frameCount(frames: Int, pages: UInt64)
    /// The page is another domain's: only its token ends the mapping.
    case isForeign(Pfn)
    /// The map's tables would need more memory than they may have; pages of 4 KiB.
    case tableMemory(limit: Int)
    /// A map of so many pages or frames needs so many bytes for its top level, and they cannot be had.
    case noMemory(frames: UInt64, byteCount: Int)

    /// Bytes of memory that could not be had; 0 with the other errors.
    package var byteCount: Int {
        if case .noMemory(_, let count) = self { count } else { 0 }
    }

    /// One line.
    public var description: String {
        switch self {
        case .pfnOutOfRange(let pfn, let limit): "\(pfn) is beyond the domain's \(limit) frames"
        case .frameOutOfRange(let frame, let limit): "\(frame) is beyond the bus's \(limit) frames"
        case .alreadyMapped(let pfn): "\(pfn) is mapped already"
        case .notMapped(let pfn): "\(pfn) is not mapped"
        case .frameInUse(let frame, let pfn): "\(frame) is mapped at \(pfn) already"
        case .notBallooned(let pfn): "\(pfn) is not free for a foreign frame"
        case .frameCount(let frames, let pages): "\(frames) frames for \(pages) pages; each page needs one"
        case .isForeign(let pfn): "\(pfn) holds a foreign frame"
        case .tableMemory(let limit): "the tables may have \(limit) pages and no more"
        case .noMemory(let frames, let count): "no memory of \(count) bytes for the tables of \(frames) frames"
        }
    }
}
