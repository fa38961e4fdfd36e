// CONTRACT STUB: one device queue's bus. Each attached region gets a window of bus addresses; nothing outside a window resolves.

import SharedMemory

/// Thrown when a device reaches for an address that nothing is mapped at.
public struct BusFault: Error, Hashable, Sendable {
    public let segment: BusSegment
    public init(segment: BusSegment) { self.segment = segment }
}

/// The bus that one device queue sees. Used by one thread.
public final class MemoryBus {
    public init() {}
    /// Gives `region` a window; returns the address of its first byte. The same region attached again gets the same window and is counted.
    public func attach(_ region: SharedRegion) -> BusAddress { fatalError() }
    /// Takes the window back when it has been detached as often as attached.
    public func detach(_ region: SharedRegion) { fatalError() }
}
