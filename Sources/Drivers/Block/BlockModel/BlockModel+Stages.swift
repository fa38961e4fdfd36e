// A request's stages: a barrier drains, flushes, does its own and flushes again, unless its own is durable by itself; a
// flush with data comes before its data.

import BlockDevices
import DMA
import LinuxSystem

/// What comes before and after a request's own operation.
public enum WorkOrdering: Sendable, BitwiseCopyable {
    /// Nothing.
    case none
    /// A flush comes first: writes that were answered are on stable storage before this begins.
    case flushFirst
    /// A barrier: everything taken before has ended and is on stable storage, then this, then that is on stable
    /// storage, and only then anything taken later begins.
    case barrier
}

extension DeviceOperation {
    /// Whether a request of this kind may have several ranges.
    @inlinable var isOfRanges: Bool {
        switch self {
        case .discard, .writeZeroes: true
        case .read, .write, .flush: false
        }
    }
}

extension DeviceOperation {
    /// Whether it is a write that no flush has to follow.
    @inlinable var isDurableWrite: Bool { if case .write(_, true) = self { true } else { false } }
}

extension BlockModel where Transport: ~Copyable {
    @inlinable
    mutating func occupy(_ slot: RequestSlot, _ work: BlockWork) {
        requests.occupy(slot, work, sampler.begin())
        if work.ordering == .barrier { barrier = slot }
    }

    /// Starts a request whose data can be reached, or that has none.
    @inlinable
    mutating func begin(_ slot: RequestSlot) {
        switch requests[slot].work.ordering {
        case .none: submitMain(slot)
        case .flushFirst:
            requests[slot].stage = .flushBefore
            submit(.flush, slot)
        case .barrier:
            requests[slot].stage = .draining
            // The barrier itself is in work, too.
            if inWork == 1 { advance(slot) }
        }
    }

    /// Takes a request whose last stage has ended to the next one.
    @inlinable
    mutating func advance(_ slot: RequestSlot) {
        let request = requests[slot]
        switch request.stage {
        case .draining:
            requests[slot].stage = .flushBefore
            submit(.flush, slot)
        case .flushBefore:
            if request.work.operation == .flush { finish(slot, .done) } else { submitMain(slot) }
        case .main where request.work.operation.isOfRanges && goOn(slot): break
        case .main where request.work.ordering == .barrier && !request.work.operation.isDurableWrite:
            requests[slot].stage = .flushAfter
            submit(.flush, slot)
        case .main, .flushAfter: finish(slot, .done)
        case .vacant, .waiting: break
        }
    }

    @inlinable
    mutating func submitMain(_ slot: RequestSlot) {
        requests[slot].stage = .main
        let work = requests[slot].work
        switch work.operation {
        case .flush: submit(.flush, slot)
        case .discard(_, let byteCount, _):
            statistics.discards &+= 1
            // Nothing to discard is no error, and no work for the disk.
            if byteCount == 0 { return advance(slot) }
            submit(work.operation, slot)
        case .writeZeroes(_, let byteCount, _):
            statistics.zeroes &+= 1
            if byteCount == 0 { return advance(slot) }
            submit(work.operation, slot)
        case .read:
            guard reach(slot, .fromDevice) else { return finish(slot, .failed) }
            statistics.reads &+= 1
            statistics.readBytes &+= work.byteCount
            hand(work.operation, slot)
        case .write:
            guard reach(slot, .toDevice) else { return finish(slot, .failed) }
            statistics.writes &+= 1
            statistics.writtenBytes &+= work.byteCount
            hand(work.operation, slot)
        }
    }

    /// Begins a request's next range; false: it has no more.
    @inlinable
    mutating func goOn(_ slot: RequestSlot) -> Bool {
        guard let next = transport.nextRange(of: slot) else { return false }
        requests[slot].work.operation = next
        submitMain(slot)
        return true
    }

    /// Whether the disk can have a request's data; `segments` says where.
    @inlinable
    mutating func reach(_ slot: RequestSlot, _ direction: DMADirection) -> Bool {
        segments.removeAll(keepingCapacity: true)
        return transport.reach(slot, direction, into: &segments)
    }

    /// Gives the disk an operation that has no data.
    @inlinable
    mutating func submit(_ operation: DeviceOperation, _ slot: RequestSlot) {
        if operation == .flush { statistics.flushes &+= 1 }
        segments.removeAll(keepingCapacity: true)
        hand(operation, slot)
    }

    @inlinable
    mutating func hand(_ operation: DeviceOperation, _ slot: RequestSlot) {
        if let result = disk.submit(operation, tag: slot.tag, segments: segments.span) {
            ended(slot, result)
        } else {
            inFlight += 1
        }
    }

    /// The disk ended one stage of a request.
    @inlinable
    mutating func ended(_ slot: RequestSlot, _ result: DeviceResult) {
        switch result {
        case .done: advance(slot)
        case .failed(let error):
            if error.isUnsupported { withdraw(slot) } else { note(slot, error) }
            statistics.failed &+= 1
            finish(slot, error.isUnsupported ? .unsupported : .failed)
        }
    }

    /// The disk does not know what the request asks for.
    @usableFromInline
    mutating func withdraw(_ slot: RequestSlot) {
        let request = requests[slot]
        let operations: OptionalOperations =
            switch request.work.operation {
            case .discard: .discard
            // With a barrier around it, it may be the flush that failed.
            case .writeZeroes where request.stage == .main: .zeroes
            case .read, .write, .flush, .writeZeroes: .flush
            }
        transport.withdraw(operations)
        lost.formUnion(operations)
    }

    /// Notes how long a request took.
    @usableFromInline
    mutating func time(_ request: RequestState) {
        latencies.record(
            BlockLatencyKind(request.work.operation), sampler.now &- request.begun.nanoseconds, weight: request.begun.weight)
    }

    /// Answers a request; a barrier that waited for it may begin.
    @inlinable
    mutating func finish(_ slot: RequestSlot, _ outcome: WorkOutcome) {
        guard let request = requests.end(slot) else { return }
        freed = true
        unshown &+= Self.weight(requests[slot].work)
        if requests[slot].begun.weight > 0 { time(requests[slot]) }
        transport.answer(request, outcome)
        if barrier == slot {
            barrier = nil
        } else if let barrier, inWork == 1, requests[barrier].stage == .draining {
            advance(barrier)
        }
    }
}
