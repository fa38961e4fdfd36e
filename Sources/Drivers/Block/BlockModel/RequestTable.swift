// The requests in work. A slot is taken by `occupy` and given back by `end`, which alone makes the token that an answer
// takes.

import BlockDevices

/// How far a request has come.
@usableFromInline
enum RequestStage: UInt8, Sendable {
    /// The slot is vacant.
    case vacant
    /// Its data cannot be reached yet.
    case waiting
    /// A barrier that waits until everything before it has ended.
    case draining
    /// A flush that comes before the operation.
    case flushBefore
    /// The operation itself.
    case main
    /// The flush that makes a barrier's own data durable.
    case flushAfter
}

/// One request in work.
@usableFromInline
struct RequestState: Sendable {
    @usableFromInline var work: BlockWork
    @usableFromInline var stage: RequestStage
    /// When it was taken.
    @usableFromInline var begun: LatencySampler.Stamp

    @inlinable init(work: BlockWork, stage: RequestStage, begun: LatencySampler.Stamp) {
        self.work = work
        self.stage = stage
        self.begun = begun
    }
}

extension RequestState {
    /// None.
    @inlinable init() { self.init(work: BlockWork(.flush), stage: .vacant, begun: .init(nanoseconds: 0, weight: 0)) }
}

/// A request that has left its slot and must be answered: exactly once, because an answer consumes it and there is no
/// second.
public struct EndedRequest: ~Copyable {
    /// Where it was; the transport's own notes on it are there until it is answered.
    public let slot: RequestSlot

    @usableFromInline var isAnswered = false

    @inlinable init(_ slot: RequestSlot) { self.slot = slot }

    /// The answer is on its way: for a transport, when it has written it.
    @inlinable public consuming func answered() { isAnswered = true }

    // Not to be reached by anything that a peer does: whoever ends a request has it in hand.
    deinit { precondition(isAnswered, "the request in slot \(slot.offset) was ended and not answered") }
}

/// As many requests as may be in work at once.
@usableFromInline
struct RequestTable: Sendable {
    @usableFromInline var states: SlotMap<RequestState>
    @usableFromInline var vacancies: [RequestSlot]
    /// How many requests may be in work.
    @usableFromInline let capacity: Int

    @inlinable init(capacity: Int) {
        self.capacity = capacity
        states = SlotMap(repeating: RequestState(), capacity: capacity)
        vacancies = (0..<Int32(capacity)).reversed().map { RequestSlot(index: $0) }
    }

    /// Requests in work.
    @inlinable var count: Int { capacity - vacancies.count }
    /// The slot that the next request gets; nil: all are taken.
    @inlinable var vacant: RequestSlot? { vacancies.last }

    /// The slot that a disk calls `tag`; nil if it is none of this table's.
    @inlinable func slot(tag: UInt32) -> RequestSlot? { Int(tag) < capacity ? RequestSlot(index: Int32(tag)) : nil }

    @inlinable
    subscript(slot: RequestSlot) -> RequestState {
        get { states[slot] }
        _modify { yield &states[slot] }
    }

    /// Puts a request into the vacant slot that `vacant` named.
    @inlinable
    mutating func occupy(_ slot: RequestSlot, _ work: BlockWork, _ begun: LatencySampler.Stamp) {
        vacancies.removeLast()
        states[slot] = RequestState(work: work, stage: .waiting, begun: begun)
    }

    /// Takes a request out of its slot; nil if there is none in it.
    @inlinable
    mutating func end(_ slot: RequestSlot) -> EndedRequest? {
        guard states[slot].stage != .vacant else { return nil }
        states[slot].stage = .vacant
        vacancies.append(slot)
        return EndedRequest(slot)
    }
}
