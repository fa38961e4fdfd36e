// A cable in memory between two interfaces of one backend: what one frontend sends the other receives, with no tap
// between. Both ends behave as a network card's do: a frame that the other end cannot take as it is is cut up here, one
// for an end that nobody has plugged in is lost, and each end learns whether the other is there.

import DMA
import Glibc
import LinuxSystem
import Packets
import SharedMemory
import Synchronization

/// The cables of one backend.
public final class NetworkLinks: Sendable {
    private struct Weak {
        weak var link: NetworkLink?
    }
    private let links = Mutex<[String: Weak]>([:])

    /// No cables yet.
    public init() {}

    /// The end of the cable between `own` and `peer` that is `own`'s. It is the same cable for both, as long as one of
    /// them keeps its end.
    /// - Parameters:
    ///   - own: a name that no other interface of the backend has; so is `peer`.
    ///   - mtu: bytes of payload that this end's frames may have.
    ///   - lifeline: a predecessor's; nil: the end is new.
    public func end(
        of own: String, to peer: String, mtu: Int, resuming lifeline: [Descriptor]? = nil
    ) throws(Errno) -> any NetworkDevice {
        guard own != peer else { throw .tooManySymbolicLinkLevels }
        let names = own < peer ? (own, peer) : (peer, own)
        let key = "\(names.0) \(names.1)"
        let made = links.withLock { links -> Result<NetworkLink, Errno> in
            links = links.filter { $0.value.link != nil }
            if let link = links[key]?.link { return .success(link) }
            do throws(Errno) {
                let link: NetworkLink
                if let lifeline { link = try NetworkLink(resuming: lifeline) } else { link = try NetworkLink() }
                links[key] = Weak(link: link)
                return .success(link)
            } catch { return .failure(error) }
        }
        return NetworkLinkEnd(try made.get(), isFirst: own == names.0, name: "cable to \(peer)", mtu: mtu)
    }
}

/// One cable.
final class NetworkLink: Sendable {
    let first: LinkSide
    let second: LinkSide

    init() throws(Errno) {
        first = LinkSide(try LinkDirection())
        second = LinkSide(try LinkDirection())
    }

    /// Goes on with a predecessor's: whoever was at either end is awaited there.
    init(resuming lifeline: [Descriptor]) throws(Errno) {
        let count = LinkDirection.lifelineCount
        first = LinkSide(try LinkDirection(resuming: lifeline.prefix(count)))
        second = LinkSide(try LinkDirection(resuming: lifeline.dropFirst(count)))
        for side in [first, second] { side.isAwaited.store(true, ordering: .releasing) }
    }

    /// See `NetworkDevice.lifeline`.
    var lifeline: [Descriptor] { first.inbound.lifeline + second.inbound.lifeline }
}

/// What belongs to one end of a cable.
final class LinkSide: Sendable {
    /// Frames for this end.
    let inbound: LinkDirection
    /// Queues that whoever is at this end has open; none: it is not plugged in.
    let queues = Atomic<Int>(0)
    /// What it takes (`OffloadSet`).
    let takes = Atomic<UInt32>(0)
    /// A predecessor of this process has served it: frames for it are kept until it is known whether it is plugged in
    /// again.
    let isAwaited = Atomic<Bool>(false)
    /// Told when the other end comes or goes.
    let watcher = Mutex<(@Sendable () -> Void)?>(nil)

    init(_ inbound: LinkDirection) { self.inbound = inbound }

    var isPlugged: Bool { queues.load(ordering: .acquiring) > 0 || isAwaited.load(ordering: .acquiring) }
}

/// One end as a driver has it.
final class NetworkLinkEnd: NetworkDevice {
    let name: String
    let mtu: Int
    private let link: NetworkLink
    private let own: LinkSide
    private let other: LinkSide

    init(_ link: NetworkLink, isFirst: Bool, name: String, mtu: Int) {
        self.link = link
        own = isFirst ? link.first : link.second
        other = isFirst ? link.second : link.first
        self.name = name
        self.mtu = mtu
    }

    func setOffloads(_ offloads: OffloadSet) throws(Errno) { own.takes.store(offloads.rawValue, ordering: .relaxed) }

    /// A cable has one writer and one reader at each end.
    var needsOneThread: Bool { true }

    var carrier: Bool? { other.isPlugged }

    func watchCarrier(_ changed: @escaping @Sendable () -> Void) { own.watcher.withLock { $0 = changed } }

    var lifeline: [Descriptor] { link.lifeline }

    func settle() {
        if own.isAwaited.exchange(false, ordering: .acquiringAndReleasing), !own.isPlugged { own.inbound.discardAll() }
    }

    func retire() { own.watcher.withLock { $0 = nil } }

    func openQueue(bus: MemoryBus) throws(Errno) -> any NetworkDeviceQueue { try LinkQueue(own, other, bus) }
}

/// A queue of one end. Queues of one end share its thread.
private final class LinkQueue: NetworkDeviceQueue {
    private let own: LinkSide
    private let other: LinkSide
    private let bus: MemoryBus
    private let vectors = VectorList(capacity: 24)
    /// A frame that is to be cut up, while it is.
    private let scratch: SharedRegion
    private var isOpen = true
    private(set) var statistics = NetworkDeviceStatistics()

    init(_ own: LinkSide, _ other: LinkSide, _ bus: MemoryBus) throws(Errno) {
        self.own = own
        self.other = other
        self.bus = bus
        scratch = try SharedRegion(anonymous: 17 * SharedRegion.pageSize)
        if own.queues.add(1, ordering: .sequentiallyConsistent).oldValue == 0 {
            // What was on its way when the process before this one ended is still wanted.
            if !own.isAwaited.exchange(false, ordering: .acquiringAndReleasing) { own.inbound.discardAll() }
            tellOther()
        }
    }

    deinit { close() }

    func close() {
        guard isOpen else { return }
        isOpen = false
        guard own.queues.subtract(1, ordering: .sequentiallyConsistent).newValue == 0 else { return }
        // Whoever waits for room finds that there is nobody to send to.
        own.inbound.discardAll()
        tellOther()
    }

    private func tellOther() {
        let watcher = other.watcher.withLock { $0 }
        watcher?()
    }

    var descriptor: Descriptor? { own.inbound.framesBell }
    var roomDescriptor: Descriptor? { other.inbound.roomBell }

    // MARK: Sending

    func send(_ offload: FrameOffload, segments: Span<BusSegment>) -> FrameSent {
        guard other.isPlugged else { return .failed(.networkDown) }
        guard vectors.load(segments, bus, .toDevice) else { return fail(.badAddress) }
        let count = Int(vectors.total)
        if let segmentation = offload.segmentation, !otherTakes(segmentation.type) { return sendCut(offload, segmentation, count) }
        guard let place = other.inbound.reserve(count, offload) else { return isTooLong(count) ? fail(.messageTooLong) : .full }
        vectors.gather(into: place.region, at: place.offset)
        other.inbound.commit()
        other.inbound.tell()
        return sent(count)
    }

    /// Nothing waits.
    func flush(_ ended: inout [FrameSent]) {}

    private func isTooLong(_ count: Int) -> Bool { count > scratch.byteCount }

    private func otherTakes(_ type: SegmentationType) -> Bool {
        let set = OffloadSet(rawValue: other.takes.load(ordering: .relaxed))
        return set.contains(type == .tcp4 ? .tcp4 : .tcp6)
    }

    /// Cuts the frame up as a network card would. All of it or nothing: a part could not be taken back.
    private func sendCut(_ offload: FrameOffload, _ segmentation: FrameOffload.Segmentation, _ count: Int) -> FrameSent {
        guard !isTooLong(count) else { return fail(.messageTooLong) }
        vectors.gather(into: scratch, at: 0)
        guard var cutter = SegmentCutter(scratch, byteCount: count, size: Int(segmentation.size)) else {
            return fail(.invalidArgument)
        }
        // A segment of a few bytes each would take more room than there ever is.
        guard cutter.totalBytes + cutter.segments * 64 <= LinkDirection.capacity / 2 else { return fail(.messageTooLong) }
        guard other.inbound.hasRoom(frames: cutter.segments, byteCount: cutter.totalBytes) else { return .full }
        var plain = offload
        plain.segmentation = nil
        while let byteCount = cutter.nextByteCount, let place = other.inbound.reserve(byteCount, plain) {
            cutter.write(to: place.region, at: place.offset)
            other.inbound.commit()
        }
        other.inbound.tell()
        return sent(count)
    }

    private func sent(_ count: Int) -> FrameSent {
        statistics.sentFrames &+= 1
        statistics.sentBytes &+= UInt64(count)
        return .sent
    }

    private func fail(_ error: Errno) -> FrameSent {
        statistics.errors &+= 1
        return .failed(error)
    }

    // MARK: Receiving

    func receive(into segments: Span<BusSegment>) -> FrameReceived {
        guard isOpen, let (region, offset, count, offload) = own.inbound.next() else { return .nothing }
        defer { own.inbound.release() }
        guard vectors.load(segments, bus, .fromDevice) else {
            statistics.errors &+= 1
            return .failed(.badAddress)
        }
        // Longer than this end's MTU allows: a card drops it, too.
        guard count <= vectors.total else {
            statistics.errors &+= 1
            return .spoilt
        }
        vectors.scatter(from: region, at: offset, byteCount: count)
        statistics.receivedFrames &+= 1
        statistics.receivedBytes &+= UInt64(count)
        return .frame(byteCount: count, offload)
    }
}
