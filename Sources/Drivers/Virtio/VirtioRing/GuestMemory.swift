// The driver's memory as a device sees it: the rings know addresses and ask here what stands behind them. A table of
// mapped regions is one such memory (GuestMap), an IOMMU another, grants a third.

import SharedMemory

/// Bytes side by side in the driver's addresses.
public struct GuestRun: Equatable, Sendable, BitwiseCopyable {
    /// The first byte.
    public var address: UInt64
    /// How many; address plus count never wraps in a chain that was taken.
    public var byteCount: UInt32
    /// A run.
    @inlinable @inline(__always) public init(address: UInt64, byteCount: UInt32) {
        self.address = address
        self.byteCount = byteCount
    }
}

/// What the first bytes of a run are.
public enum GuestPiece {
    /// So many of them, side by side, at an offset of mapped memory.
    case here(SharedRegion, offset: Int, byteCount: UInt32)
    /// There will be an answer later: an IOMMU that has been asked, grants that are mapped in a batch.
    case later
    /// Not the driver's memory, or not to be written.
    case outside
}

/// How an access to the driver's memory went.
public enum GuestReach: Equatable, Sendable {
    /// All of it was done.
    case here
    /// Nothing was: try again when the memory has an answer.
    case later
    /// The addresses are no memory.
    case outside
    /// The chain has fewer bytes.
    case short
}

/// Translates a driver's addresses. Consulted on the thread of the queue.
public protocol GuestMemory {
    /// Whether a chain may name these bytes; where that is known only later, it may. Address plus count does not wrap.
    func admits(_ run: GuestRun, forWriting: Bool) -> Bool
    /// What the beginning of a run is, at least one byte long. Address plus count does not wrap.
    func piece(_ run: GuestRun, forWriting: Bool) -> GuestPiece
    /// Makes what a chain names reachable, and the chain name it so; false: there is no answer yet, and the chain stays
    /// where it is. Of a chain that cannot be reached as a whole the last byte to be written is left, if that can.
    func settle(_ chain: inout DescriptorChain) -> Bool
}

extension GuestMemory {
    /// What is admitted is there, by the name that it has.
    @inlinable @inline(__always)
    public func settle(_ chain: inout DescriptorChain) -> Bool { true }

    /// Copies a run out, each byte once, however many regions it lies in; nil and the reason if it cannot be had.
    @usableFromInline
    func bytes(of run: GuestRun) -> ([UInt8]?, GuestReach) {
        var bytes: [UInt8] = []
        bytes.reserveCapacity(Int(run.byteCount))
        var rest = run
        while rest.byteCount > 0 {
            switch piece(rest, forWriting: false) {
            case .later: return (nil, .later)
            case .outside: return (nil, .outside)
            case .here(let region, let offset, let count):
                // A memory that answers with nothing would hold us for ever; with too much, lead us past the run.
                guard count > 0, count <= rest.byteCount else { return (nil, .outside) }
                bytes += region.bytes(at: offset, count: Int(count))
                rest = GuestRun(address: rest.address &+ UInt64(count), byteCount: rest.byteCount - count)
            }
        }
        return (bytes, .here)
    }
}
