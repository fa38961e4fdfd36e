// What a disk's requests mean, whoever brings them: each is taken once, goes through its stages in order, and is
// answered once. Knows no ring, grant or hypervisor; it is specialised for its transport, and owned by one thread. A
// struct with one owner, because the owner's class pays for access once a turn, not once a field.

import BlockDevices
import DMA
import LinuxSystem

/// A disk's queue over one transport.
///
/// Drive it so: `takeRequests` when `hasWork`; `ended` for each completion of the disk's; `publish` at the end of each
/// turn.
public struct BlockModel<Transport: BlockTransport & ~Copyable>: ~Copyable {
    /// Where requests come from and answers go.
    public var transport: Transport
    /// Where operations go.
    public var disk: any BlockDeviceQueue
    /// What was asked so far.
    public var statistics = BlockModelStatistics()

    @usableFromInline var requests: RequestTable
    /// Bus segments of the operation that is being given to the disk.
    @usableFromInline var segments: [BusSegment] = []
    /// A barrier in work: nothing behind it starts.
    @usableFromInline var barrier: RequestSlot?
    /// Operations at the disk.
    @usableFromInline var inFlight = 0
    /// How long requests took, each from its taking to its answer.
    public let latencies = BlockLatencyRecord()
    @usableFromInline var sampler: LatencySampler
    /// What the disk failed since the beginning, a value for each kind; `statistics.failed` counts all.
    public internal(set) var failures: [DiskFailure] = []
    /// What the disk turned out not to know, to be told once.
    @usableFromInline var lost: OptionalOperations = []

    /// Nothing more is taken; what is in work ends.
    public private(set) var isClosing = false
    /// What ended the transport; nothing more is taken from it.
    public var fault: Transport.Fault? { broken }
    @usableFromInline var broken: Transport.Fault?
    /// Whether a request has ended since requests were last taken: one that waits for memory may have it now.
    public var hasFreed: Bool { freed }
    @usableFromInline var freed = false
    /// The weight of the answers that the peer does not see yet.
    @usableFromInline var unshown: UInt64 = 0

    /// The weight of answers that are shown before a turn is over: eight small ones, or one of 128 KiB. A peer that
    /// looks on finds them meanwhile, and need not sleep until a long turn's end; showing each small one would move the
    /// ring's indices between processors all the time.
    @inlinable static var weightShownAtOnce: UInt64 { 8 }
    @inlinable static func weight(_ work: BlockWork) -> UInt64 { 1 &+ work.byteCount >> 14 }

    /// A queue in which nothing is in work.
    /// - Parameters:
    ///   - capacity: requests in work at most.
    ///   - segments: bus segments that a request has at most; only an expectation.
    ///   - time: the clock that times requests.
    public init(
        _ transport: consuming Transport, disk: any BlockDeviceQueue, capacity: Int, segments: Int, time: any TimeSource
    ) {
        self.transport = transport
        self.disk = disk
        requests = RequestTable(capacity: capacity)
        sampler = LatencySampler(time)
        self.segments.reserveCapacity(segments)
    }

    /// Takes nothing more from the transport.
    public mutating func close() { isClosing = true }

    /// Whether a request may be taken now: no barrier is in work, and there is a slot.
    @inlinable public var isOpen: Bool { !isClosing && broken == nil && barrier == nil && requests.vacant != nil }

    /// Requests in work, those that wait included.
    @inlinable public var inWork: Int { requests.count }

    /// Whether there is something for `takeRequests`. One load at most.
    @inlinable public mutating func hasWork() -> Bool { transport.isStalled ? freed : isOpen && transport.hasRequests() }

    /// The queue's thread was asleep, and something has woken it.
    public mutating func wake() { sampler.wake() }

    /// What the disk turned out not to know since this was last asked.
    @inlinable
    public mutating func takeWithdrawn() -> OptionalOperations {
        defer { lost = [] }
        return lost
    }

    /// Takes what is asked and starts it. One turn takes at most as many as may be in work, so that one busy peer
    /// leaves room for the others on this thread (attacks.md A33). The last answers are shown by `publish`; a peer that
    /// must be notified of the ones before is to be notified at once.
    @inlinable
    public mutating func takeRequests() -> (taken: Int, rejected: Int, mustNotify: Bool) {
        var (taken, rejected, mustNotify) = (0, 0, false)
        freed = false
        do throws(Transport.Fault) {
            taking: while isOpen, taken < requests.capacity, let slot = requests.vacant {
                switch try transport.next(in: slot, inFlight: inFlight) {
                case .none: break taking
                case .refused: rejected += 1
                case .answered: break
                case .ready(let work):
                    occupy(slot, work)
                    begin(slot)
                case .waiting(let work): occupy(slot, work)
                }
                taken += 1
                if unshown >= Self.weightShownAtOnce { mustNotify = publish() || mustNotify }
            }
        } catch { broken = error }
        while let (slot, isReachable) = transport.nextWaiting(inFlight: inFlight) {
            if isReachable { begin(slot) } else { finish(slot, .failed) }
        }
        statistics.requests &+= UInt64(taken)
        statistics.rejected &+= UInt64(rejected)
        return (taken, rejected, mustNotify)
    }

    /// Shows the peer what was answered; true if it must be notified.
    @inlinable
    public mutating func publish() -> Bool {
        unshown = 0
        return transport.publish()
    }

    /// The disk ended what it was given under `tag`.
    @inlinable
    public mutating func ended(tag: UInt32, _ result: DeviceResult) {
        guard let slot = requests.slot(tag: tag), inFlight > 0 else { return }
        inFlight -= 1
        ended(slot, result)
    }
}
