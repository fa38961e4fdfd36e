// State beside rings: one writer, any number of readers, the last value wins. There are no requests, no answers and no
// wake-ups here; whoever wants to be told of a change is told by another way.
//
// Four copies of the value stand in the page. The writer fills the one after the current and then moves the sequence
// on, so a writer that stops in mid-copy hurts nobody: the last whole value stays. A reader copies, then looks at the
// sequence again: as long as it moved by at most two, the writer was busy elsewhere. A writer that lies about the
// sequence can at worst make a reader give up; the value is the writer's to choose anyway.

import Synchronization

/// A value that may be copied out of memory a peer writes: every pattern of bits is one, and there is no padding, which
/// would carry the writer's stack to its readers.
///
/// Integers and structures of them qualify; `Bool`, enums and anything with a reference or a gap do not.
public protocol FlatState: BitwiseCopyable, Sendable {}

extension UInt8: FlatState {}
extension UInt16: FlatState {}
extension UInt32: FlatState {}
extension UInt64: FlatState {}
extension Int64: FlatState {}
extension InlineArray: FlatState where Element: FlatState {}

/// Where the parts of a state page lie: the sequence at 0, four copies from 64 on.
enum StatePageLayout {
    static let copies: UInt32 = 4
    static let header = 64

    /// Bytes from one copy to the next: whole cache lines.
    static func stride(_ size: Int) -> Int { max(64, (size + 63) & ~63) }
    /// Bytes the whole takes.
    static func byteCount(_ size: Int) -> Int { header + Int(copies) * stride(size) }
    static func offset(_ sequence: UInt32, _ size: Int) -> Int { header + Int(sequence & (copies - 1)) * stride(size) }

    static func check(_ size: Int, in region: SharedRegion, at start: Int) {
        precondition(
            start >= 0 && start % 64 == 0 && start <= region.byteCount && byteCount(size) <= region.byteCount - start,
            "the state does not fit")
    }
}

/// The writing side of a state page. One only.
public struct StatePageWriter<T: FlatState>: ~Copyable {
    private let region: SharedRegion
    private let start: Int
    private var sequence: UInt32

    /// Bytes that a state page takes.
    public static var byteCount: Int { StatePageLayout.byteCount(MemoryLayout<T>.size) }

    /// Begins a state page in `region`, which must be writable and large enough (else it traps: our own error).
    /// - Parameter start: where in it, a multiple of 64.
    public init(initialising region: SharedRegion, at start: Int = 0, startingAt sequence: UInt32 = 0) {
        StatePageLayout.check(MemoryLayout<T>.size, in: region, at: start)
        self.region = region
        self.start = start
        self.sequence = sequence
        region.fill(start, count: Self.byteCount)
        region.storeReleasing(sequence, at: start)
    }

    /// Makes `value` the state.
    public mutating func write(_ value: T) {
        // The last sequence before this value: a reader that sees any byte of it also sees that the sequence moved.
        atomicMemoryFence(ordering: .releasing)
        let next = sequence &+ 1
        let size = MemoryLayout<T>.size
        region.copyOut(value, byteCount: size, at: start + StatePageLayout.offset(next, size))
        sequence = next
        // Release: the value before the sequence.
        region.storeReleasing(next, at: start)
    }

    /// `state page at version 7`.
    public var description: String { "state page at version \(sequence)" }
}

/// What a reader found.
public enum StateRefresh: Sendable, Equatable {
    /// Nothing new since the last time.
    case unchanged
    /// `value` is the newest whole one.
    case changed
    /// The writer was faster each time, or plays with the sequence; `value` is as it was.
    case contended
}

/// A reading side of a state page.
public struct StatePageReader<T: FlatState>: ~Copyable {
    /// How often a copy is tried before the reader gives up: a bound, so that no writer can hold a reader.
    public static var attempts: Int { 8 }

    private let region: SharedRegion
    private let start: Int
    private var sequence: UInt32
    /// The last whole value, or the initial one.
    public private(set) var value: T

    /// Reads the state page in `region`, large enough (else it traps: our own error).
    /// - Parameters:
    ///   - start: where in it, a multiple of 64.
    ///   - initial: what `value` is until something was written.
    ///   - sequence: where the writer began.
    public init(attaching region: SharedRegion, at start: Int = 0, initial: T, startingAt sequence: UInt32 = 0) {
        StatePageLayout.check(MemoryLayout<T>.size, in: region, at: start)
        self.region = region
        self.start = start
        self.sequence = sequence
        value = initial
    }

    /// Takes the newest value.
    public mutating func refresh() -> StateRefresh {
        let size = MemoryLayout<T>.size
        for _ in 0..<Self.attempts {
            // Acquire: the sequence before the value.
            let before = region.loadAcquiring(start)
            if before == sequence { return .unchanged }
            var copy = value
            region.copyIn(start + StatePageLayout.offset(before, size), into: &copy, byteCount: size)
            // The value before the second look at the sequence.
            atomicMemoryFence(ordering: .acquiring)
            let after = region.loadRelaxed(start)
            // At version `after` the writer may be filling `after + 1`; that is our copy only if it is `before + 4`.
            if after &- before < StatePageLayout.copies - 1 {
                value = copy
                sequence = before
                return .changed
            }
        }
        return .contended
    }

    /// `reader of a state page at version 7`.
    public var description: String { "reader of a state page at version \(sequence)" }
}
