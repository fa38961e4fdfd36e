// What a connector does for the model: it finds requests, makes their data reachable, and says how they ended. Xen's
// ring with its grants is one; a virtqueue with its memory table is another. The model owns it, and calls it on one
// thread.

import BlockDevices
import DMA

/// What `BlockTransport.next` found.
public enum TakenRequest: Sendable {
    /// Nothing, or nothing that can be taken now.
    case none
    /// A request whose data can be reached.
    case ready(BlockWork)
    /// A request whose data can be reached later: `nextWaiting` tells when.
    case waiting(BlockWork)
    /// A request that made no sense. The transport has answered it itself.
    case refused
    /// A request that needs no disk. The transport has answered it itself.
    case answered
}

/// One ring, or whatever requests come by, with the memory that they name.
public protocol BlockTransport: ~Copyable {
    /// What ends the whole transport: a ring that makes no sense.
    associatedtype Fault: Error, CustomStringConvertible

    /// Whether requests wait for memory that others hold; nothing new is taken meanwhile, and nothing changes until a
    /// request ends.
    var isStalled: Bool { get }

    /// Whether there is something to take. One load at most.
    mutating func hasRequests() -> Bool

    /// Takes the next request into `slot`: what the transport keeps of it is kept there until `answer`. A refusal,
    /// `answered`, `none`, or a fault leaves the slot vacant.
    /// - Parameter inFlight: operations at the disk: as long as there are some, memory will be given back.
    mutating func next(in slot: RequestSlot, inFlight: Int) throws(Fault) -> TakenRequest

    /// The next of those that waited, and whether its data can be reached now; it is not to be had at all if not. nil:
    /// no more at present.
    mutating func nextWaiting(inFlight: Int) -> (slot: RequestSlot, isReachable: Bool)?

    /// The bus segments of a request's data, which `segments` (empty) gets in order; false: the disk cannot have them.
    mutating func reach(_ slot: RequestSlot, _ direction: DMADirection, into segments: inout [BusSegment]) -> Bool

    /// A request of several ranges is done one after the other: the next one, once that before it is done. nil: there
    /// is no more.
    mutating func nextRange(of slot: RequestSlot) -> DeviceOperation?

    /// Gives back what the request held and answers it. The peer need not see that before `publish`.
    mutating func answer(_ request: consuming EndedRequest, _ outcome: WorkOutcome)

    /// The disk does not know these after all: they are refused from now on.
    mutating func withdraw(_ operations: OptionalOperations)

    /// Shows the peer what was answered; true if it must be notified.
    mutating func publish() -> Bool
}

extension BlockTransport where Self: ~Copyable {
    /// One range is all that its requests have.
    @inlinable
    public mutating func nextRange(of slot: RequestSlot) -> DeviceOperation? { nil }
}
