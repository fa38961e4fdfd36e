// An interface's queue that does wrong what a FaultBook says: it stands before the real one while faults are set, and
// is gone otherwise. What strikes a frame has its bytes copied: what the driver gave may be gone by the time they are
// sent.

import DMA
import DeviceFaults
import LinuxSystem
import Packets
import Reactor
import SharedMemory

/// One queue, with faults. On its reactor's thread. Frames that the device receives go toward the frontend, those that
/// it sends toward the backend.
public final class FaultyFrames: NetworkDeviceQueue, ReactorClient {
    /// The real one.
    public let real: any NetworkDeviceQueue
    private let book: FaultBook
    private let bus: MemoryBus
    private let reactor: Reactor
    /// Frames are there again for whoever asked in vain.
    private let ready: () -> Void
    private var place: ReactorSlot?
    /// Private memory for one frame, and where the device finds it.
    private let scratch: SharedRegion
    private let address: BusAddress
    /// Frames for the driver, before the device's next.
    private var inbound: [KeptFrame] = []
    /// Frames that are late, by the tags of their timers, with those for whom they are.
    private var late: [UInt32: (frame: KeptFrame, toward: FaultSide)] = [:]
    private var nextTimer: UInt32 = 0
    /// Nothing moves until then (nanoseconds); what the driver gave meanwhile.
    private var stalledUntil: UInt64 = 0
    private var stalled: [KeptFrame] = []

    private static let kinds: Set<DeviceFault> = [.drop, .delay, .stall, .reorder, .duplicate, .corrupt, .short]
    private static let mostBytes = SharedRegion.wholePages(FramePort.mostBytes + 14)
    private static let stallTimer = UInt32.max
    /// Frames of the device's that are looked at in one call.
    private static let patience = 64
    /// Frames that are late at most; more are lost, as on a wire.
    private static let mostLate = 1024

    /// Stands before `real`, which finds memory on `bus`.
    /// - Parameter ready: called when `receive` has something after it had nothing.
    public init(
        _ real: any NetworkDeviceQueue, _ book: FaultBook, bus: MemoryBus, on reactor: Reactor, ready: @escaping () -> Void
    ) throws(Errno) {
        scratch = try SharedRegion(anonymous: Self.mostBytes)
        address = bus.attach(scratch)
        self.real = real
        self.book = book
        self.bus = bus
        self.reactor = reactor
        self.ready = ready
        place = reactor.attach(self)
    }

    /// Stands before it no more: what is late is sent now, and what was to be received is lost.
    public func retire() {
        let waiting = late.sorted { $0.key < $1.key }.map(\.value)
        late = [:]
        for kept in waiting where kept.toward == .back { send(kept.frame) }
        endStall()
        leave()
    }

    private func leave() {
        if let place {
            reactor.detach(place)
            bus.detachIdle(scratch)
        }
        place = nil
    }

    // MARK: An interface's queue

    /// See `NetworkDeviceQueue.send`. What is late counts as sent: whoever sends is told nothing of a wire.
    public func send(_ offload: FrameOffload, segments: Span<BusSegment>) -> FrameSent {
        let fate = FrameFate(book.strikes(kinds(), toward: .back))
        stall(fate)
        guard fate.isStruck || isStalled else { return real.send(offload, segments: segments) }
        if fate.isLost { return .sent }
        guard var frame = copy(segments, offload) else { return .failed(.badAddress) }
        frame.spoil(fate)
        if isStalled {
            if stalled.count < Self.mostLate { stalled.append(frame) }
            return .sent
        }
        if fate.isDoubled { keep(frame, toward: .back, microseconds: 0) }
        // Not at once: the frames before it may still wait in the device.
        keep(frame, toward: .back, microseconds: fate.delayMicroseconds)
        return .sent
    }

    /// See `NetworkDeviceQueue.flush`.
    public func flush(_ ended: inout [FrameSent]) { real.flush(&ended) }

    /// See `NetworkDeviceQueue.receive`.
    public func receive(into segments: Span<BusSegment>) -> FrameReceived {
        for _ in 0..<Self.patience {
            if isStalled { return .nothing }
            if !inbound.isEmpty { return give(inbound.removeFirst(), segments) }
            // Into memory of its own: what a device is to write it may not read.
            let whole = [BusSegment(address: address, byteCount: UInt32(Self.mostBytes))]
            let found = real.receive(into: whole.span)
            guard case .frame(let byteCount, let offload) = found else { return found }
            var frame = KeptFrame(bytes: scratch.bytes(at: 0, count: byteCount), offload: offload)
            let fate = FrameFate(book.strikes(kinds(), toward: .front))
            stall(fate)
            if !fate.isStruck { return give(frame, segments) }
            if fate.isLost { continue }
            frame.spoil(fate)
            if fate.isDoubled { inbound.append(frame) }
            if fate.delayMicroseconds > 0 {
                keep(frame, toward: .front, microseconds: fate.delayMicroseconds)
            } else {
                inbound.append(frame)
            }
        }
        return .nothing
    }

    /// See `NetworkDeviceQueue.descriptor`. While it stalls the device may have frames, and nothing comes of them.
    public var descriptor: Descriptor? { isStalled ? nil : real.descriptor }

    /// See `NetworkDeviceQueue.roomDescriptor`.
    public var roomDescriptor: Descriptor? { real.roomDescriptor }

    /// See `NetworkDeviceQueue.close`.
    public func close() {
        late = [:]
        leave()
        real.close()
    }

    /// See `NetworkDeviceQueue.statistics`.
    public var statistics: NetworkDeviceStatistics { real.statistics }

    // MARK: Frames

    private func copy(_ segments: Span<BusSegment>, _ offload: FrameOffload) -> KeptFrame? {
        var count = 0
        for index in segments.indices {
            guard bus.read(segments[index], into: scratch, at: count) else { return nil }
            count += Int(segments[index].byteCount)
        }
        return KeptFrame(bytes: scratch.bytes(at: 0, count: count), offload: offload)
    }

    private func give(_ frame: KeptFrame, _ segments: Span<BusSegment>) -> FrameReceived {
        scratch.write(frame.bytes, at: 0)
        var done = 0
        for index in segments.indices where done < frame.bytes.count {
            var segment = segments[index]
            segment.byteCount = min(segment.byteCount, UInt32(frame.bytes.count - done))
            guard bus.write(segment, from: scratch, at: done) else { return .failed(.badAddress) }
            done += Int(segment.byteCount)
        }
        return done == frame.bytes.count ? .frame(byteCount: done, frame.offload) : .spoilt
    }

    private func send(_ frame: KeptFrame) {
        scratch.write(frame.bytes, at: 0)
        let segment = [BusSegment(address: address, byteCount: UInt32(frame.bytes.count))]
        guard real.send(frame.offload, segments: segment.span) == .waiting else { return }
        var ended: [FrameSent] = []
        real.flush(&ended)
    }

    // MARK: Time

    private var isStalled: Bool { stalledUntil > reactor.time.nanoseconds }

    private func kinds() -> Set<DeviceFault> {
        var kinds = Self.kinds
        // What comes while it stalls is no reason to stall longer.
        if isStalled { kinds.remove(.stall) }
        return kinds
    }

    private func stall(_ fate: FrameFate) {
        guard let microseconds = fate.stallMicroseconds, let place else { return }
        stalledUntil = reactor.time.nanoseconds &+ microseconds &* 1000
        reactor.after(microseconds: microseconds + 1, place, tag: Self.stallTimer)
    }

    private func endStall() {
        stalledUntil = 0
        for frame in stalled { send(frame) }
        stalled = []
    }

    private func keep(_ frame: KeptFrame, toward side: FaultSide, microseconds: UInt64) {
        guard let place, late.count < Self.mostLate else { return }
        nextTimer = (nextTimer + 1) % Self.stallTimer
        late[nextTimer] = (frame, side)
        reactor.after(microseconds: microseconds, place, tag: nextTimer)
    }

    /// A timer is over.
    public func completed(tag: UInt32, result: Int32) {
        if tag == Self.stallTimer {
            endStall()
            ready()
        } else if let kept = late.removeValue(forKey: tag) {
            if kept.toward == .back { return send(kept.frame) }
            inbound.append(kept.frame)
            ready()
        }
    }

    /// Nothing comes but timers.
    public func poll() -> Bool { false }

    /// Nothing comes but timers.
    public func prepareToSleep() -> Bool { false }
}
