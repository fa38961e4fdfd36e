// Frontends that lie about their rings: indices, words that change while they are read, doorbells that ring for
// nothing.

import Foundation
import Hypervisor
import LinuxSystem
import MockPeers
import NetworkBackend
import NetworkProtocol
import SharedMemory
import SharedRing
import Synchronization
import Testing
import TestSupport

/// Rewrites words of a page as fast as it can, until it is stopped.
final class Racer: Sendable {
    private let isOver = Atomic<Bool>(false)
    private let target: Atomic<Int>
    private let thread: Mutex<WorkerThread?>
    /// Rewrites done.
    private let counter = Mutex<Int>(0)
    var count: Int { counter.withLock { $0 } }

    /// At `target` and behind it, each word by itself becomes one of its values in turn; with a negative target it
    /// waits for one.
    init(_ region: SharedRegion, target: Int = -1, _ values: [[UInt32]]) throws {
        self.target = Atomic(target)
        thread = Mutex(nil)
        let made = try WorkerThread(name: "racer") { [self] in
            var turn = 0
            while !isOver.load(ordering: .relaxed) {
                let place = self.target.load(ordering: .relaxed)
                // Between two looks at the target, many rewrites: the moment between two reads of a slot is short.
                for _ in 0..<(place >= 0 ? 64 : 0) {
                    // Steps that have no common divisor: every combination comes up.
                    for index in values.indices {
                        let choices = values[index]
                        region.storeRelaxed(choices[(turn >> index) % choices.count], at: place + 4 * index)
                    }
                    turn &+= 1
                }
            }
            counter.withLock { $0 = turn }
        }
        thread.withLock { $0 = made }
    }

    func aim(_ offset: Int) { target.store(offset, ordering: .relaxed) }

    func stop() {
        isOver.store(true, ordering: .relaxed)
        thread.withLock { $0.take() }?.join()
    }
}

@Suite(.timeLimit(.minutes(3)), .serialized)
struct HostileRingTests {
    private func connected(
        _ options: NetworkBackendOptions = .init(), keys: [String: String] = [:], queues: Int = 1
    ) throws -> (NetworkPair, MockNetworkFrontend) {
        let pair = try NetworkPair(options)
        let raw = try MockNetworkFrontend(pair, keys: keys, queues: queues)
        try raw.wait(for: [.connected])
        return (pair, raw)
    }

    /// One lie on one ring of any queue ends the interface, which then costs nothing.
    @Test(arguments: [0, 1, 2], ["tx", "rx"]) func B1_everyQueuesIndices(_ queue: Int, _ ring: String) throws {
        let (pair, raw) = try connected(queues: 3)
        let page = ring == "tx" ? raw.queues[queue].transmitPage : raw.queues[queue].receivePage
        for _ in 0..<3 { try pair.backWire.send(plainFrame(60)) }
        page.region.storeReleasing(5000, at: RingHeader.requestProduced)
        raw.queues[queue].bell.notify()
        try raw.wait(for: [.closing])
        let before = processorMilliseconds()
        // The index goes on changing, and the bell ringing.
        for round in 0..<20 {
            page.region.storeReleasing(UInt32(round), at: RingHeader.requestProduced)
            raw.queues[queue].bell.notify()
            sleepMilliseconds(10)
        }
        #expect(processorMilliseconds() - before < 50, "a quarantined interface is looked at no more")
        try raw.close()
        pair.backend.stop()
    }

    /// Each field is read once: whatever the racer writes meanwhile, a frame is one of the eight that an honest slot
    /// could mean.
    @Test(arguments: [false, true]) func B4_aSlotThatChangesWhileItIsRead(mapped: Bool) throws {
        let (pair, raw) = try connected()
        if mapped { try raw.map([0, 1]) }
        let contents = (0..<2).map { page in (0..<4096).map { UInt8(truncatingIfNeeded: $0 &* 7 &+ page * 101 &+ $0 / 256) } }
        for page in 0..<2 { raw.data.region.write(contents[page], at: page * 4096) }
        let (offsets, sizes) = ([0, 64], [100, 4000])
        var expected = Set<[UInt8]>()
        for page in contents {
            for offset in offsets { for size in sizes { expected.insert(Array(page[offset..<offset + size])) } }
        }
        let racer = try Racer(
            raw.transmitPage.region,
            [
                (0..<2).map { raw.data.references[$0].rawValue }, offsets.map { UInt32($0) },
                sizes.indices.map { UInt32($0) | UInt32(sizes[$0]) << 16 },
            ])
        var seen = Set<Int>()
        for round in 0..<soak(3000) {
            let slot = raw.transmit.geometry.slotCount
            racer.aim(64 + (round % Int(slot)) * 12)
            raw.send([raw.request(size: 100)])
            // The answer lies where the racer writes; that there is one is all that can be said of it.
            _ = try raw.answers(1)
            let frame = try #require(try pair.backWire.receive()?.frame)
            guard expected.contains(frame) else {
                Issue.record("round \(round): a frame of \(frame.count) bytes that no snapshot of the slot means")
                break
            }
            seen.insert(frame.count)
        }
        racer.stop()
        #expect(seen == Set(sizes), "the racer was late")
        #expect(try pair.serves(raw))
        try raw.close()
        pair.backend.stop()
    }

    /// The same of extra information: a size of segments that was checked is the size that is used. The other size is
    /// the interface's end.
    @Test func B4_extraInformationThatChanges() throws {
        let pair = try NetworkPair()
        let frame = TestFrame(version: 4, transport: .tcp, payload: 3000)
        var (sent, ended) = (0, 0)
        for _ in 0..<soak(40) {
            let raw = try MockNetworkFrontend(pair)
            try raw.wait(for: [.connected])
            raw.data.region.write(frame.bytes, at: 0)
            let racer = try Racer(raw.transmitPage.region, [[0x0100_0001, 0x0000_0001], [1]])
            for round in 0..<100 {
                racer.aim(64 + ((2 * round + 1) % 256) * 12)
                raw.send([
                    raw.request(size: frame.bytes.count, flags: [.extraInfo, .checksumBlank]),
                    TransmitSlot(ExtraInfo(segmenting: .tcp4, size: 256)),
                ])
                _ = try raw.answers(2)
                guard let header = try pair.backWire.receive(milliseconds: 20)?.header else {
                    ended += 1
                    break
                }
                #expect(header[1] == 1 && header[4] == 0 && header[5] == 1, "segments of no size: \(header)")
                sent += 1
            }
            racer.stop()
            try raw.closeForAnother()
        }
        #expect(sent > 0 && ended > 0, "the racer was late: \(sent) sent, \(ended) ends")
        pair.backend.stop()
    }

    /// A control request is answered as what it was when it was read: a place in the mapping that was checked is the
    /// place that is written.
    @Test func B4_controlRequestsThatChange() throws {
        let (pair, raw) = try connected()
        raw.data.region.fill(50 * 4096, count: 4096)
        #expect(try raw.ask(5, 128).status == .success)
        // The last word only: the answer lies in the others.
        let racer = try Racer(raw.controlPage.region, [[0, 127, 128, 1 << 31, .max]])
        var statuses = Set<UInt32>()
        for round in 0..<soak(3000) {
            racer.aim(64 + ((round + 1) % 128) * 16 + 12)
            let answer = try raw.ask(6, raw.data.references[50].rawValue, 1, 0)
            statuses.insert(answer.rawStatus)
        }
        racer.stop()
        #expect(statuses == [ControlStatus.success.rawValue, ControlStatus.invalidParameter.rawValue])
        #expect(try pair.serves(raw))
        try raw.close()
        pair.backend.stop()
    }

    /// An answer changes its own bytes of its slot and of the page; everything else stays as the frontend painted it.
    @Test func B5_answersChangeNothingElseInTheirRings() throws {
        let (pair, raw) = try connected()
        for page in [raw.transmitPage, raw.receivePage, raw.controlPage] { page.region.fill(16, count: 4080, with: 0xA5) }
        func expectPainted(_ page: any OfferedPages, but changed: [Range<Int>], _ name: String) {
            let bytes = page.region.bytes(at: 0, count: 4096)
            let spoilt = (16..<4096).filter { place in bytes[place] != 0xA5 && !changed.contains { $0.contains(place) } }
            #expect(spoilt.isEmpty, "\(name): bytes \(spoilt.prefix(8))")
        }
        // A request leaves its last eight bytes where the four of the answer end.
        raw.send([raw.request(size: 60, flags: .extraInfo, id: 0x1234), TransmitSlot(ExtraInfo(segmenting: .tcp4, size: 9))])
        _ = try raw.answers(2)
        let slot = raw.transmitPage.region.bytes(at: 64, count: 12)
        #expect(slot[0..<4] == [0x34, 0x12, 0xFF, 0xFF] && slot[4..<12] == [0, 0, 8, 0, 0x34, 0x12, 60, 0])
        #expect(raw.transmitPage.region.bytes(at: 76, count: 4) == [0, 0, 1, 0], "the extra slot's answer")
        expectPainted(raw.transmitPage, but: [64..<88], "tx")
        raw.post([3])
        try pair.backWire.send(plainFrame(70))
        _ = try raw.received()
        #expect(raw.receivePage.region.bytes(at: 64, count: 8) == [3, 0, 0, 0, 0, 0, 70, 0])
        expectPainted(raw.receivePage, but: [64..<72], "rx")
        _ = try raw.ask(200, 0x1111_1111, 0x2222_2222, 0x3333_3333)
        #expect(raw.controlPage.region.bytes(at: 64, count: 16) == [77, 0, 200, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0x33, 0x33, 0x33, 0x33])
        expectPainted(raw.controlPage, but: [64..<80], "control")
        try raw.close()
        pair.backend.stop()
    }

    /// Ids are the frontend's own business: they are echoed, whatever they are. An index that goes back is a lie.
    @Test func B28_idsAreEchoedAndIndicesDoNotGoBack() throws {
        let (pair, raw) = try connected()
        let ids: [UInt16] = [7, 7, 65_535, 0, 7]
        for (page, id) in ids.enumerated() { _ = raw.receive.push(ReceiveRequest(id: id, reference: raw.data.references[page])) }
        _ = raw.receive.publish()
        raw.bell.notify()
        for (page, id) in ids.enumerated() {
            let frame = plainFrame(100, seed: page)
            try pair.backWire.send(frame)
            #expect(try raw.received().response == ReceiveResponse(id: id, status: 100))
            expectSame(raw.data.region.bytes(at: page * 4096, count: 100), frame)
        }
        raw.post([20, 21])
        try pair.backWire.send(plainFrame(60))
        _ = try raw.received()
        raw.receivePage.region.storeReleasing(3, at: RingHeader.requestProduced)
        for _ in 0..<3 { try pair.backWire.send(plainFrame(60)) }
        try raw.wait(for: [.closing])
        #expect(try pair.backendError().contains("producer index"))
        try raw.close()
        pair.backend.stop()
    }

    /// All traffic on one queue of four, while the bells of the others ring for nothing: the traffic flows, and the
    /// bells cost little.
    @Test func B34_oneBusyQueueAndThreeThatOnlyRing() throws {
        let (pair, raw) = try connected(queues: 4)
        let isOver = Atomic<Bool>(false)
        try withThread("storm") {
            while !isOver.load(ordering: .relaxed) { for queue in 0..<3 { raw.queues[queue].bell.notify() } }
        } during: {
            for round in 0..<200 {
                let frame = plainFrame(200, seed: round)
                raw.data.region.write(frame, at: 0)
                raw.send([raw.request(size: 200, id: round)], queue: 3)
                #expect(try raw.answers(1, queue: 3).first?.status == .okay)
                expectSame(try pair.backWire.receive()?.frame ?? [], frame)
            }
            sleepMilliseconds(300)
            isOver.store(true, ordering: .relaxed)
        }
        // Counters are shown when there was work.
        for queue in 0..<4 { #expect(try pair.serves(raw, queue: queue)) }
        let rings = pair.backend.status.flatMap(\.queues).prefix(3).map(\.notificationsTaken)
        #expect(rings.allSatisfy { $0 > 0 && $0 < 200 }, "each ring for nothing is answered later than the last: \(rings)")
        try raw.close()
        pair.backend.stop()
    }
}

/// Runs `body` while another thread runs `other`, and waits for that.
func withThread(_ name: String, _ other: @escaping () -> Void, during body: () throws -> Void) throws {
    // The tests' objects are not Sendable; each test sees to it that no two threads use the same one at once.
    nonisolated(unsafe) let job = other
    let thread = try WorkerThread(name: name) { job() }
    defer { thread.join() }
    try body()
}
