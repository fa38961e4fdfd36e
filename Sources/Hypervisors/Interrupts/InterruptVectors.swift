// The driver's end of a device's vectors.

import Synchronization

/// A device's vectors, for its driver. When this goes, the device is detached. Any thread.
public final class InterruptVectors: Sendable, CustomStringConvertible {
    /// Whose they are.
    public let device: String
    /// How many.
    public var count: Int { vectors.count }
    private let table: InterruptTable
    private let block: Range<Int>
    private let vectors: [InterruptVector]
    private let trust: InterruptTrust
    private let isDetached = Atomic<Bool>(false)
    /// Held while the routes of all are replaced: two who do so at once leave the routes of one of them, not a mixture.
    private let replacing = Mutex(())

    init(table: InterruptTable, device: String, block: Range<Int>, _ vectors: [InterruptVector], _ trust: InterruptTrust) {
        self.trust = trust
        self.table = table
        self.device = device
        self.block = block
        self.vectors = vectors
    }

    deinit { detach() }

    private func vector(_ index: Int) throws(InterruptError) -> InterruptVector {
        guard index >= 0, index < vectors.count else { throw .noSuchVector(index, vectors: vectors.count) }
        if isDetached.load(ordering: .acquiring) { throw .detached }
        return vectors[index]
    }

    /// The message that a device writes to raise this vector; what its MSI-X table is to hold.
    public func message(_ index: Int) throws(InterruptError) -> InterruptMessage {
        _ = try vector(index)
        return InterruptMessage(
            entry: UInt16(truncatingIfNeeded: block.lowerBound), offset: UInt16(truncatingIfNeeded: index))
    }

    /// Says where a vector leads. What has not been taken yet goes there, too.
    public func route(_ index: Int, to target: InterruptTarget) throws(InterruptError) { try vector(index).route(to: target) }

    /// Says where every vector leads, as one who replaces a whole table. What has not been taken yet goes to the new
    /// targets, and from its return on nothing goes to the old ones: no interrupt is lost between the two, and none
    /// comes twice. Wrong in number, nothing is changed.
    public func route(all targets: [InterruptTarget]) throws(InterruptError) {
        guard targets.count == vectors.count else { throw .badTargetCount(targets.count, vectors: vectors.count) }
        if isDetached.load(ordering: .acquiring) { throw .detached }
        replacing.withLock { _ in for (vector, target) in zip(vectors, targets) { vector.route(to: target) } }
    }

    /// Masks every vector, as for a device that is suspended, and tells what is pending in each: from its return on
    /// nothing is delivered.
    public func suspend() throws(InterruptError) -> [UInt64] {
        if isDetached.load(ordering: .acquiring) { throw .detached }
        for vector in vectors { vector.mask() }
        return vectors.map(\.pending)
    }

    /// Unmasks every vector, with what was pending in each when the device was suspended elsewhere: it is delivered
    /// with what came since. Wrong in number, nothing is changed.
    public func resume(pending: [UInt64] = []) throws(InterruptError) {
        guard pending.isEmpty || pending.count == vectors.count else {
            throw .badTargetCount(pending.count, vectors: vectors.count)
        }
        if isDetached.load(ordering: .acquiring) { throw .detached }
        for (vector, count) in zip(vectors, pending) { vector.add(count) }
        for vector in vectors { vector.unmask() }
    }

    /// From its return on nothing is delivered; it counts on.
    public func mask(_ index: Int) throws(InterruptError) { try vector(index).mask() }

    /// What came while it was masked is delivered now.
    public func unmask(_ index: Int) throws(InterruptError) { try vector(index).unmask() }

    /// Whether it is masked.
    public func isMasked(_ index: Int) throws(InterruptError) -> Bool { try vector(index).isMasked }

    /// How often it was raised since this was last asked. An event channel's order: acknowledge the channel, take,
    /// work; a vector raised after `take` rings again. (A vector that leads to an eventfd is counted there.)
    public func take(_ index: Int) throws(InterruptError) -> UInt64 { try vector(index).take() }

    /// How often, without taking it.
    public func pending(_ index: Int) throws(InterruptError) -> UInt64 { try vector(index).pending }

    /// Writes eventfds again that were left alone, for whoever reads them had made them block and filled them.
    public func restoreTrust() { trust.restore() }

    /// Takes the vectors back: from its return on the device raises nothing, and the entries can be another's.
    public func detach() {
        if isDetached.exchange(true, ordering: .acquiringAndReleasing) { return }
        for vector in vectors { vector.close() }
        table.remove(block)
    }

    /// `interrupts of vbd-51712: 4 vectors`.
    public var description: String { "interrupts of \(device): \(count) vector\(count == 1 ? "" : "s")" }
}
