// Where a ring's end may be made to lie to its peer, for tests of that peer. The end itself stays right: its private
// indices and what it knows of its requests are as ever, and only what the peer is shown is not.

import SharedMemory

/// What is about to be shown: slots that were written and not published.
public struct RingBatch: Sendable {
    /// The ring's memory.
    public let region: SharedRegion
    /// Where its slots lie.
    public let geometry: RingGeometry
    /// The first slot of the batch.
    public let first: RingIndex
    /// The one behind its last.
    public let end: RingIndex

    init(_ region: SharedRegion, _ geometry: RingGeometry, from first: RingIndex, to end: RingIndex) {
        self.region = region
        self.geometry = geometry
        self.first = first
        self.end = end
    }

    /// Where each slot of the batch begins, in bytes from the region's start.
    public var offsets: [Int] { (0..<(end - first)).map { geometry.offset(first.advanced(by: $0)) } }
}

/// Whoever spoils what an end of a ring shows. On the ring's thread.
public protocol RingTamper: AnyObject {
    /// A batch is about to be shown: its slots can be written anew.
    /// - Returns: the producer index to show; an honest one is the batch's `end`.
    func spoil(_ batch: RingBatch) -> RingIndex
    /// The peer asked to be notified and is about to be; true: it is not.
    func swallowsNotification() -> Bool
}

extension BackRing {
    /// `publish` by way of whoever spoils it.
    @usableFromInline
    mutating func publish(by tamper: any RingTamper) -> Bool {
        let fresh = pushed - published
        let shown = tamper.spoil(RingBatch(region, geometry, from: published, to: pushed))
        published = pushed
        return show(shown, fresh) && !tamper.swallowsNotification()
    }
}

extension FrontRing {
    /// `publish` by way of whoever spoils it.
    @usableFromInline
    mutating func publish(by tamper: any RingTamper) -> Bool {
        let fresh = pushed - published
        let shown = tamper.spoil(RingBatch(region, geometry, from: published, to: pushed))
        published = pushed
        return show(shown, fresh) && !tamper.swallowsNotification()
    }
}
