// How much moves before the other side hears of it: large frames are handed over in parts, so that both sides work at
// once.

import DMA
import LinuxSystem
import MockPeers
import NetworkDevices
import NetworkProtocol
import Packets
import SharedMemory
import SharedRing
import Synchronization
import Testing
import TestSupport

/// A device with so many large frames to give, and room for any; notes how far a ring has got at each frame it gives or
/// takes.
private final class WatchingNetwork: NetworkDevice, NetworkDeviceQueue, Sendable {
    static let frameBytes = 15 * 4096

    private struct State {
        var left: Int
        var produced: () -> UInt32 = { 0 }
        var seen: [UInt32] = []
    }
    private let state: Mutex<State>
    let name = "watching"
    let mtu = 65_535

    init(frames: Int = 0) { state = Mutex(State(left: frames)) }

    /// From now on, what `index` of the ring in `region` is at each frame.
    func watch(_ region: SharedRegion, _ index: Int) {
        state.withLock {
            $0.produced = { region.loadRelaxed(index) }
            $0.seen = []
        }
    }
    var seen: [UInt32] { state.withLock { $0.seen } }

    func send(_ offload: FrameOffload, segments: Span<BusSegment>) -> FrameSent {
        state.withLock { $0.seen.append($0.produced()) }
        return .sent
    }

    func flush(_ ended: inout [FrameSent]) {}

    func receive(into segments: Span<BusSegment>) -> FrameReceived {
        state.withLock { state in
            guard state.left > 0 else { return .nothing }
            state.left -= 1
            state.seen.append(state.produced())
            return .frame(byteCount: Self.frameBytes, FrameOffload())
        }
    }

    func openQueue(bus: MemoryBus) throws(Errno) -> any NetworkDeviceQueue { self }
    func setOffloads(_ offloads: OffloadSet) throws(Errno) {}
    func close() {}
    var descriptor: Descriptor? { nil }
    var statistics: NetworkDeviceStatistics { .init() }
}

@Suite(.timeLimit(.minutes(1)), .serialized)
struct TurnTests {
    private static let frames = 10
    private static let slots = WatchingNetwork.frameBytes / 4096
    /// Frames of this size that a turn moves: the fifth reaches 256 KiB.
    private static let part = 5

    /// The ring moved on while the frames did, and each part was one that a turn may move.
    private func expectParts(_ seen: [UInt32], from start: UInt32 = 0, sourceLocation: SourceLocation = #_sourceLocation) {
        #expect(seen.count == Self.frames, sourceLocation: sourceLocation)
        for (index, produced) in seen.enumerated() {
            let expected = start + UInt32(index / Self.part * Self.part * Self.slots)
            #expect(produced == expected, "frame \(index)", sourceLocation: sourceLocation)
        }
    }

    /// A large packet's slots.
    private func packet(_ raw: MockNetworkFrontend, _ number: Int) -> [TransmitSlot] {
        (0..<Self.slots).map { slot in
            raw.request(
                page: slot, size: slot == 0 ? WatchingNetwork.frameBytes : 4096, flags: slot + 1 < Self.slots ? .moreData : [],
                id: number * Self.slots + slot)
        }
    }

    @Test func backendTakesLargePacketsInParts() throws {
        let device = WatchingNetwork()
        let pair = try NetworkPair(backEnd: BackEnd(device))
        let raw = try MockNetworkFrontend(pair)
        try raw.wait(for: [.connected])
        device.watch(raw.transmitPage.region, RingHeader.responseProduced)
        raw.send((0..<Self.frames).flatMap { packet(raw, $0) })
        _ = try raw.answers(Self.frames * Self.slots)
        expectParts(device.seen)
        try raw.close()
        pair.backend.stop()
    }

    @Test(arguments: [false, true]) func backendGivesLargeFramesInParts(mapped: Bool) throws {
        let device = WatchingNetwork(frames: Self.frames)
        let pair = try NetworkPair(backEnd: BackEnd(device))
        let raw = try MockNetworkFrontend(pair)
        try raw.wait(for: [.connected])
        if mapped { try raw.map(Array(0..<60)) }
        device.watch(raw.receivePage.region, RingHeader.responseProduced)
        // All of a ring, over the same pages.
        raw.post((0..<250).map { $0 % 60 })
        for _ in 0..<Self.frames * Self.slots { _ = try raw.received() }
        expectParts(device.seen)
        try raw.close()
        pair.backend.stop()
    }

    @Test func frontendTakesLargeFramesInParts() throws {
        let device = WatchingNetwork()
        let pair = try MockBackendPair(device: device)
        let raw = pair.backend
        device.watch(raw.receive.region, RingHeader.requestProduced)
        let start = raw.receive.region.loadRelaxed(RingHeader.requestProduced)
        for slot in 0..<Self.frames * Self.slots {
            let isLast = (slot + 1) % Self.slots == 0
            let id = try raw.posted().id
            raw.receive.push(ReceiveSlot(ReceiveResponse(id: id, flags: isLast ? [] : .moreData, status: 4096)))
        }
        _ = raw.receive.publish()
        raw.ring()
        #expect(eventually { device.seen.count == Self.frames })
        expectParts(device.seen, from: start)
        pair.end()
    }

    @Test func frontendGivesLargeFramesInParts() throws {
        let device = WatchingNetwork(frames: Self.frames)
        let pair = try MockBackendPair(device: device, goesLive: false)
        let raw = pair.backend
        try raw.attach()
        device.watch(raw.transmit.region, RingHeader.requestProduced)
        try pair.goLive()
        for _ in 0..<Self.frames * Self.slots { #expect(try raw.sent() != nil) }
        expectParts(device.seen)
        pair.end()
    }
}
