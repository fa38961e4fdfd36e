// A run of frames that cannot wrap: checked once, when it is made.

/// Frames `start`, `start + 1`, … Empty, ending exactly at the top of the address space, and passing it are three
/// cases: the first two are ranges, the last does not exist.
public struct FrameRange<Frame: FrameNumber>: Hashable, Sendable, CustomStringConvertible {
    /// The first frame.
    public let start: Frame
    /// Pages.
    public let count: UInt64

    /// `count` frames from `start` on; nil if one of them would lie beyond the 64-bit address space.
    @inlinable public init?(_ start: Frame, count: UInt64) {
        guard start.rawValue <= frameNumberLimit, count <= frameNumberLimit &- start.rawValue else { return nil }
        self.start = start
        self.count = count
    }
    /// One frame; nil if it lies beyond the 64-bit address space.
    @inlinable public init?(_ frame: Frame) { self.init(frame, count: 1) }

    /// Whether it has no frame.
    @inlinable public var isEmpty: Bool { count == 0 }
    /// Whether it reaches the last frame of the address space.
    @inlinable public var endsAtTop: Bool { count > 0 && end == frameNumberLimit }
    /// One past the last frame's number; at most `frameNumberLimit`.
    @inlinable public var end: UInt64 { start.rawValue &+ count }
    /// The last frame; nil if it is empty.
    @inlinable public var last: Frame? { isEmpty ? nil : Frame(rawValue: end &- 1) }
    /// Whether `frame` is one of them.
    @inlinable public func contains(_ frame: Frame) -> Bool { frame.rawValue >= start.rawValue && frame.rawValue < end }
    /// Whether they have a frame in common.
    @inlinable public func overlaps(_ other: FrameRange) -> Bool {
        start.rawValue < other.end && other.start.rawValue < end && !isEmpty && !other.isEmpty
    }
    /// `p0x10 for 16 pages`.
    public var description: String { "\(start) for \(count) page\(count == 1 ? "" : "s")" }
}

extension FrameRange {
    /// Frames in order as runs, each as long as they go up by one. None at the top of the address space.
    package static func joined(_ frames: [Frame]) -> [FrameRange] {
        var runs: [FrameRange] = []
        var (start, count): (UInt64, UInt64) = (0, 0)
        for frame in frames {
            if count > 0 && frame.rawValue == start &+ count {
                count &+= 1
                continue
            }
            if let run = FrameRange(Frame(rawValue: start), count: count), count > 0 { runs.append(run) }
            (start, count) = (frame.rawValue, 1)
        }
        if let run = FrameRange(Frame(rawValue: start), count: count), count > 0 { runs.append(run) }
        return runs
    }

    /// Which of the ranges' frames are in a table, in order; looks at all of the one or all of the other.
    package static func frames<Value>(of ranges: [FrameRange], in table: [UInt64: Value]) -> [UInt64] {
        if table.isEmpty { return [] }
        if ranges.reduce(0, { $0 &+ $1.count }) > UInt64(table.count) { return table.keys.sorted() }
        return ranges.flatMap { range in (range.start.rawValue..<range.end).filter { table[$0] != nil } }.sorted()
    }

    /// Whether two of the ranges have a frame in common.
    static func anyOverlap(_ ranges: [FrameRange]) -> Bool {
        if ranges.count < 2 { return false }
        let sorted = ranges.filter { !$0.isEmpty }.sorted { $0.start.rawValue < $1.start.rawValue }
        return zip(sorted, sorted.dropFirst()).contains { $0.end > $1.start.rawValue }
    }
}
