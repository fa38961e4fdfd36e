// A disk's queue that does wrong what a FaultBook says: it stands before the real one while faults are set, and is gone
// otherwise. A request waits before the disk has it, so whatever becomes of it happens once.

import DMA
import DeviceFaults
import LinuxSystem
import Reactor

/// One queue, with faults. On its reactor's thread.
public final class FaultyQueue: BlockDeviceQueue, ReactorClient {
    /// The real one.
    public let real: any BlockDeviceQueue
    private let book: FaultBook
    private let reactor: Reactor
    private let owner: any BlockQueueOwner
    private var place: ReactorSlot?
    /// Requests that the disk does not have yet, by the tag of their timer.
    private var held: [UInt32: Held] = [:]
    private var nextTimer: UInt32 = 0
    /// Those that wait for others, to change places with them.
    private var shelf: [Held] = []
    private var shelfOrder = SeededRandom(seed: 0)
    /// Until when nothing is begun (nanoseconds).
    private var stalledUntil: UInt64 = 0
    /// Whoever asks is going: nothing is made to wait any more.
    private var isEnding = false
    /// When the last of those ends that are done one by one.
    private var slowUntil: UInt64 = 0

    private struct Held {
        let operation: DeviceOperation
        let tag: UInt32
        let segments: [BusSegment]
    }

    private static let kinds: Set<DeviceFault> = [.delay, .slow, .stall, .error, .reorder]
    /// Requests that change places with each other.
    private static let mostOnShelf = 8
    private static let shelfTimer = UInt32.max

    /// Stands before `real`, whose owner hears of requests' ends as before.
    public init(_ real: any BlockDeviceQueue, _ book: FaultBook, on reactor: Reactor, owner: any BlockQueueOwner) {
        self.real = real
        self.book = book
        self.reactor = reactor
        self.owner = owner
        place = reactor.attach(self)
    }

    /// Stands before it no more: what is held begins now.
    public func retire() {
        release()
        leave()
    }

    private func leave() {
        if let place { reactor.detach(place) }
        place = nil
    }

    // MARK: A disk's queue

    /// See `BlockDeviceQueue.submit`.
    public func submit(_ operation: DeviceOperation, tag: UInt32, segments: Span<BusSegment>) -> DeviceResult? {
        if isEnding { return real.submit(operation, tag: tag, segments: segments) }
        let now = reactor.time.nanoseconds
        var kinds = Self.kinds
        // What comes while it stalls is no reason to stall longer.
        if stalledUntil > now { kinds.remove(.stall) }
        var due: UInt64 = 0
        var shelved: FaultStrike?
        for strike in book.strikes(kinds, on: operation.forFaults, sectors: operation.sectors(segments)) {
            let length = strike.milliseconds &* 1_000_000
            switch strike.kind {
            case .error: return .failed(.ioError)
            case .delay: due = max(due, now &+ length)
            case .stall: stalledUntil = now &+ length
            case .slow:
                slowUntil = max(slowUntil, now) &+ length
                due = max(due, slowUntil)
            default: shelved = strike
            }
        }
        due = max(due, stalledUntil)
        guard due > now || shelved != nil else { return real.submit(operation, tag: tag, segments: segments) }
        let request = Held(operation: operation, tag: tag, segments: segments.indices.map { segments[$0] })
        if due > now { hold(request, nanoseconds: due - now) } else if let shelved { shelve(request, shelved) }
        return nil
    }

    /// See `BlockDeviceQueue.expectRepeats`.
    public func expectRepeats(_ count: Int) { real.expectRepeats(count) }

    /// See `BlockDeviceQueue.inFlight`.
    public var inFlight: Int { real.inFlight + held.count + shelf.count }

    /// See `BlockDeviceQueue.cancelAll`: what is held begins at once, and is cancelled with the rest.
    public func cancelAll() {
        release()
        real.cancelAll()
    }

    /// See `BlockDeviceQueue.endWaiting`.
    public func endWaiting() {
        isEnding = true
        release()
        real.endWaiting()
    }

    /// See `BlockDeviceQueue.close`.
    public func close() {
        held = [:]
        shelf = []
        leave()
        real.close()
    }

    /// See `BlockDeviceQueue.statistics`.
    public var statistics: DeviceStatistics { real.statistics }

    // MARK: Waiting

    private func hold(_ request: Held, nanoseconds: UInt64) {
        guard let place else { return begin(request) }
        nextTimer = (nextTimer + 1) % Self.shelfTimer
        held[nextTimer] = request
        reactor.after(microseconds: (nanoseconds + 999) / 1000, place, tag: nextTimer)
    }

    private func shelve(_ request: Held, _ strike: FaultStrike) {
        if shelf.isEmpty, let place {
            shelfOrder = SeededRandom(seed: strike.random)
            reactor.after(microseconds: strike.milliseconds &* 1000, place, tag: Self.shelfTimer)
        }
        shelf.append(request)
        // Not from inside `submit`: the first of them may have ended before its caller knows that it has begun.
        if shelf.count >= Self.mostOnShelf, let place { reactor.after(microseconds: 0, place, tag: Self.shelfTimer) }
    }

    private func begin(_ request: Held) {
        if let result = real.submit(request.operation, tag: request.tag, segments: request.segments.span) {
            owner.deviceCompleted(tag: request.tag, result: result)
        }
    }

    private func emptyShelf() {
        var requests = shelf
        shelf = []
        while !requests.isEmpty { begin(requests.remove(at: Int(shelfOrder.next() % UInt64(requests.count)))) }
    }

    private func release() {
        let waiting = held.sorted { $0.key < $1.key }.map(\.value)
        held = [:]
        stalledUntil = 0
        slowUntil = 0
        for request in waiting { begin(request) }
        emptyShelf()
    }

    // MARK: The reactor's calls

    /// A timer is over.
    public func completed(tag: UInt32, result: Int32) {
        if tag == Self.shelfTimer { return emptyShelf() }
        if let request = held.removeValue(forKey: tag) { begin(request) }
    }

    /// Nothing comes but timers.
    public func poll() -> Bool { false }

    /// Nothing comes but timers.
    public func prepareToSleep() -> Bool { false }
}

extension DeviceOperation {
    var forFaults: FaultOperation {
        switch self {
        case .read: .read
        case .write: .write
        case .flush: .flush
        case .discard, .writeZeroes: .discard
        }
    }

    /// The sectors of 512 bytes that it touches, in whole or in part; nil: none.
    func sectors(_ segments: Span<BusSegment>) -> Range<UInt64>? {
        let (offset, count): (UInt64, UInt64)
        switch self {
        case .flush: return nil
        case .discard(let first, let byteCount, _), .writeZeroes(let first, let byteCount, _): (offset, count) = (first, byteCount)
        case .read(let first), .write(let first, _):
            var total: UInt64 = 0
            for index in segments.indices { total &+= UInt64(segments[index].byteCount) }
            (offset, count) = (first, total)
        }
        let end = offset.addingReportingOverflow(count)
        return end.overflow || count == 0 ? nil : offset >> 9..<(end.partialValue + 511) >> 9
    }
}
