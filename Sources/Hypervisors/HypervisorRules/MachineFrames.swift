// The host's machine memory, in numbers only: which machine frame stands behind each page of a run. Frames are
// scattered on purpose, by a seed, so that pages that are neighbours in a domain's own numbering are none in the
// machine's, and a driver that takes the one for the other moves wrong bytes in every test instead of in the field.

/// A run's machine frames: a start in the order in which the machine's frames are given out, and how that order is
/// scattered.
public struct MachineRun: Hashable, Sendable {
    /// The first page's place in that order.
    public var start: UInt32
    /// Odd: the place times this, plus `addend`, modulo the machine's frames, is the frame.
    public var factor: UInt32
    /// See `factor`.
    public var addend: UInt32

    /// As a daemon says it.
    public init(start: UInt32, factor: UInt32, addend: UInt32) {
        self.start = start
        self.factor = factor | 1
        self.addend = addend
    }

    /// The first machine frame that runs get, 4 GiB: what is below is nobody's to grant.
    public static let firstFrame: UInt64 = 1 << 20
    /// Frames that runs get, 64 GiB of them.
    public static let frameCount: UInt32 = 1 << 24

    /// The machine frame of page `index`.
    public func frame(_ index: Int) -> UInt64 {
        let place = (start &+ UInt32(truncatingIfNeeded: index)) &* factor &+ addend
        return Self.firstFrame + UInt64(place & (Self.frameCount - 1))
    }

    /// `frames`, for those who know a mapping and not who made it.
    public var finder: @Sendable (Int) -> [UInt64] { { self.frames($0) } }

    /// The frames of its first `count` pages.
    public func frames(_ count: Int) -> [UInt64] { (0..<count).map(frame) }
}

/// Which of them are taken.
struct MachineFrames {
    private let factor: UInt32
    private let addend: UInt32
    /// Free stretches by start, in order; no two of them touch.
    private var free: [(start: UInt32, count: UInt32)] = [(0, MachineRun.frameCount)]

    init(seed: UInt64) {
        // An odd factor permutes 2^24 numbers; a large one sends neighbours far apart.
        factor = UInt32(truncatingIfNeeded: (seed &* 0x9E37_79B9_7F4A_7C15) >> 40) | 0x40_0001
        addend = UInt32(truncatingIfNeeded: seed &* 0xBF58_476D_1CE4_E5B9 >> 32)
    }

    /// Frames for `count` pages, or nil if there are none.
    mutating func take(_ count: Int) -> MachineRun? {
        guard let wanted = UInt32(exactly: count), let index = free.firstIndex(where: { $0.count >= wanted }) else { return nil }
        let start = free[index].start
        free[index].start += wanted
        free[index].count -= wanted
        if free[index].count == 0 { free.remove(at: index) }
        return MachineRun(start: start, factor: factor, addend: addend)
    }

    mutating func giveBack(_ run: MachineRun, _ count: Int) {
        let count = UInt32(count)
        var index = free.firstIndex { $0.start > run.start } ?? free.count
        free.insert((run.start, count), at: index)
        if index + 1 < free.count, free[index].start + free[index].count == free[index + 1].start {
            free[index].count += free[index + 1].count
            free.remove(at: index + 1)
        }
        if index > 0, free[index - 1].start + free[index - 1].count == free[index].start {
            index -= 1
            free[index].count += free[index + 1].count
            free.remove(at: index + 1)
        }
    }

    /// Frames that are free.
    var freeCount: Int { free.reduce(0) { $0 + Int($1.count) } }
}
