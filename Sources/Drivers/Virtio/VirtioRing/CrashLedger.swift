// What a device has taken and not answered, kept where it survives the process. A ring calls its ledger in the one
// order that lets a successor know, whatever instruction the process was killed at:
//   taking      `willTake`, before anything else is done about the chain
//   answering   `willAnswer`, before the chain is put among the used ones
//   publishing  the ring's own index, then `didPublish`
// Each store of a ledger is one word: it has happened or has not. A kill needs no fences, only this order in the
// program; the power going takes the driver with it.

/// What a ring tells of each chain. Owned by the ring.
public protocol CrashLedger {
    /// The chain at `head` is about to be worked on.
    mutating func willTake(_ head: UInt16)
    /// It is about to be put among the used ones.
    mutating func willAnswer(_ head: UInt16)
    /// All that were put are shown; the ring's used index is `used`.
    mutating func didPublish(_ used: VirtqueueIndex)
}

/// No ledger: what a killed device had taken is lost.
public struct NoLedger: CrashLedger {
    /// Nothing.
    @inlinable public init() {}
    /// See `CrashLedger`.
    @inlinable @inline(__always) public mutating func willTake(_ head: UInt16) {}
    /// See `CrashLedger`.
    @inlinable @inline(__always) public mutating func willAnswer(_ head: UInt16) {}
    /// See `CrashLedger`.
    @inlinable @inline(__always) public mutating func didPublish(_ used: VirtqueueIndex) {}
}
