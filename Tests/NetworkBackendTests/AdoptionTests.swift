// A backend dies under a frontend in the same process, and its successor goes on with the same rings.

import Foundation
import Hypervisor
import LinuxSystem
@testable import NetworkBackend
import NetworkFrontend
import SharedMemory
import SharedRing
import Testing
import XenBus
import XenWire

/// A directory that goes with the test.
final class ScratchDirectory {
    let path: String
    init() {
        path = NSTemporaryDirectory() + "netback-\(getpid())-\(UInt32.random(in: 0 ... .max))"
        try? FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true)
    }
    deinit { try? FileManager.default.removeItem(atPath: path) }
    var files: [String] { (try? FileManager.default.contentsOfDirectory(atPath: path))?.filter { $0.hasSuffix(".journal") } ?? [] }
}

@Suite("Adoption of rings", .timeLimit(.minutes(2)), .serialized)
struct AdoptionTests {
    private func options(_ directory: ScratchDirectory) -> NetworkBackendOptions {
        var options = NetworkBackendOptions()
        options.journalDirectory = directory.path
        return options
    }

    /// A frontend as Linux's: no control ring.
    private var plain: NetworkFrontendOptions {
        var options = NetworkFrontendOptions()
        options.controlRing = false
        return options
    }

    @Test(arguments: [true, false]) func aKilledBackendsSuccessorGoesOn(split: Bool) throws {
        let directory = ScratchDirectory()
        let pair = try NetworkPair(options(directory), backendDomain: 3)
        var wishes = plain
        wishes.splitChannels = split
        let frontend = try pair.connect(wishes)
        var backend = pair.backend
        for round in 0..<6 {
            for seed in 0..<40 {
                let frame = plainFrame(60 + seed * 97, seed: round * 100 + seed)
                try pair.frontWire.send(frame)
                #expect(try pair.backWire.receive()?.frame == frame)
                try pair.backWire.send(frame)
                #expect(try pair.frontWire.receive()?.frame == frame)
            }
            backend.killAtOnce()
            #expect(try pair.node("state") == "4")
            // While nobody is there: these wait on the ring, or in the device.
            let waiting = (0..<20).map { plainFrame(500, seed: 9000 + round * 50 + $0) }
            for frame in waiting {
                try pair.frontWire.send(frame)
                try pair.backWire.send(frame)
            }
            backend = try RunningBackend(pair.host, domain: 3, options(directory), device: pair.backWire.network)
            for frame in waiting {
                #expect(try pair.backWire.receive()?.frame == frame)
                #expect(try pair.frontWire.receive()?.frame == frame)
            }
        }
        // Frames flow before the line is there.
        #expect(eventually { backend.log.contains { $0.contains("taken over") } })
        #expect(frontend.connectionCount == 1, "the frontend noticed")
        #expect(frontend.failure == nil)
        frontend.close()
        backend.stop()
    }

    /// Traffic in both directions while it dies, again and again: what comes is whole and in order, and little is lost.
    @Test func killedInTheMiddle() throws {
        let directory = ScratchDirectory()
        let pair = try NetworkPair(options(directory), backendDomain: 3)
        let frontend = try pair.connect(plain)
        var backend = pair.backend
        let done = Flag()
        func pump(_ from: Wire, _ to: Wire) throws -> (WorkerThread, LossCount) {
            let count = LossCount()
            let sender = try WorkerThread(name: "sender") {
                var number: UInt32 = 0
                while !done.isSet {
                    number += 1
                    var frame = plainFrame(1400 + Int(number % 7) * 900, seed: 1)
                    for byte in 0..<4 { frame[20 + byte] = UInt8(truncatingIfNeeded: number >> (8 * UInt32(byte))) }
                    try? from.send(frame)
                    count.sent(number)
                    while count.isFarAhead, !done.isSet { usleep(100) }
                }
            }
            return (sender, count)
        }
        func collect(_ wire: Wire, _ count: LossCount) throws -> WorkerThread {
            try WorkerThread(name: "collector") {
                while !done.isSet {
                    guard let frame = (try? wire.receive(milliseconds: 50))??.frame, frame.count >= 24 else { continue }
                    var number: UInt32 = 0
                    for byte in (0..<4).reversed() { number = number << 8 | UInt32(frame[20 + byte]) }
                    var wanted = plainFrame(1400 + Int(number % 7) * 900, seed: 1)
                    wanted.replaceSubrange(20..<24, with: frame[20..<24])
                    count.got(number, isWhole: frame == wanted)
                }
            }
        }
        let (out, outCount) = try pump(pair.frontWire, pair.backWire)
        let (back, backCount) = try pump(pair.backWire, pair.frontWire)
        let threads = [out, back, try collect(pair.backWire, outCount), try collect(pair.frontWire, backCount)]
        let rounds = 12
        for round in 0..<rounds {
            usleep(UInt32(20_000 + round * 3_137))
            backend.killAtOnce()
            backend = try RunningBackend(pair.host, domain: 3, options(directory), device: pair.backWire.network)
            let (before, beforeBack) = (outCount.arrived, backCount.arrived)
            #expect(eventually(5000) { outCount.arrived > before + 50 && backCount.arrived > beforeBack + 50 }, "round \(round)")
        }
        done.set()
        for thread in threads { thread.join() }
        for count in [outCount, backCount] {
            #expect(count.isInOrder)
            #expect(count.spoilt == 0)
            // Whatever was under way: a ring's slots, and what the device held in its hands.
            #expect(count.gaps <= rounds * 300)
        }
        #expect(try pair.node("state") == "4")
        #expect(frontend.connectionCount == 1 && frontend.failure == nil)
        frontend.close()
        // Before the backend is told to stop, which would hand over what is not closed yet.
        #expect(eventually { directory.files.isEmpty }, "journals left")
        backend.stop()
    }

    @Test func aStoppedBackendHandsOverAndOneWithoutAJournalCloses() throws {
        let directory = ScratchDirectory()
        let pair = try NetworkPair(options(directory), backendDomain: 3)
        let frontend = try pair.connect(plain)
        pair.backend.stop()
        #expect(try pair.node("state") == "4")
        let next = try RunningBackend(pair.host, domain: 3, options(directory), device: pair.backWire.network)
        try pair.frontWire.send(plainFrame(100))
        #expect(try pair.backWire.receive()?.frame == plainFrame(100))
        next.stop()
        let last = try RunningBackend(pair.host, domain: 3, device: pair.backWire.network)
        #expect(eventually(5000) { frontend.connectionCount == 2 && frontend.isLive })
        try pair.frontWire.send(plainFrame(101))
        #expect(try pair.backWire.receive()?.frame == plainFrame(101))
        frontend.close()
        last.stop()
    }

    /// A frontend that writes where only a backend does, while nobody is there: refused, closed, nothing left.
    @Test(arguments: [UInt32(1) << 31, 300, 600]) func indicesThatLieMeanwhile(_ lie: UInt32) throws {
        let directory = ScratchDirectory()
        let pair = try NetworkPair(options(directory), backendDomain: 3)
        let raw = try RawVif(pair, keys: ["ctrl-ring-ref": ""], backend: 3)
        try raw.wait(for: [.connected])
        #expect(try raw.isServed())
        pair.backend.killAtOnce()
        raw.transmitPage.region.storeReleasing(lie, at: RingHeader.responseProduced)
        let next = try RunningBackend(pair.host, domain: 3, options(directory), device: pair.backWire.network)
        try raw.wait(for: [.closing])
        #expect(next.log.contains { $0.contains("cannot take over") })
        try raw.close()
        next.stop()
        #expect(directory.files.isEmpty)
    }

    /// Every moment at which a backend can die between two of its steps, at random: each slot is answered once, in order, under its own id.
    @Test func everySlotIsAnsweredOnce() throws {
        var random = SystemRandomNumberGenerator()
        for _ in 0..<300 {
            let region = try SharedRegion(anonymous: 4096)
            let other = try SharedRegion(anonymous: 4096)
            let memory = try SharedRegion(anonymous: 4096)
            let keys = NetworkQueueKeys(transmit: GrantReference(8), receive: GrantReference(9), port: EventPort(3))
            var front = FrontRing<TransmitRing>(initialising: region, TransmitRing())
            var empty = FrontRing<ReceiveRing>(initialising: other, ReceiveRing())
            var back = BackRing(attaching: region, TransmitRing())
            var journal = InterfaceJournal(beginning: memory, of: keys)
            var packet = TransmitPacket()
            var expected: [(UInt16, isExtra: Bool)] = []
            var answered = 0
            var waiting: [[TransmitResponse]] = []
            var nextID: UInt16 = 0
            func collect() throws {
                while let response = try front.nextResponse() {
                    let wanted = expected[answered]
                    answered += 1
                    try #require(wanted.isExtra ? response.status == .null : response.id == wanted.0 && response.status != .null)
                }
            }
            _ = empty.publish()
            for _ in 0..<200 {
                switch Int.random(in: 0..<10, using: &random) {
                case 0...3:
                    let count = Int.random(in: 1...5, using: &random)
                    let hasExtra = Bool.random(using: &random)
                    guard Int(front.freeSlots) >= count + 1 else { break }
                    for index in 0..<count {
                        var flags: TransmitFlags = index + 1 < count ? .moreData : []
                        if index == 0, hasExtra { flags.insert(.extraInfo) }
                        _ = front.push(
                            TransmitSlot(
                                TransmitRequest(
                                    reference: GrantReference(1), offset: 0, flags: flags, id: nextID,
                                    size: index == 0 ? UInt16(count * 100) : 100)))
                        expected.append((nextID, false))
                        nextID &+= 1
                        if index == 0, hasExtra {
                            _ = front.push(TransmitSlot(ExtraInfo(segmenting: .tcp4, size: 1000)))
                            expected.append((0, true))
                        }
                    }
                    _ = front.publish()
                case 4...5:
                    let index = back.nextRequestIndex
                    guard let slot = try back.nextRequest() else { break }
                    _ = try packet.assemble(slot, from: &back)
                    // A kill here leaves the slots to the successor.
                    if Bool.random(using: &random) {
                        journal.took(packet, at: index)
                        var answers = [TransmitResponse(id: packet.parts[0].id, status: .okay)]
                        for _ in 0..<packet.extraCount { answers.append(TransmitResponse(id: 0, status: .null)) }
                        for part in packet.parts.dropFirst() { answers.append(TransmitResponse(id: part.id, status: .okay)) }
                        waiting.append(answers)
                    } else {
                        try succeed()
                    }
                case 6: if !waiting.isEmpty { for answer in waiting.removeFirst() { back.push(answer) } }
                case 7: _ = back.publish()
                case 8: try succeed()
                default: try collect()
                }
            }
            func succeed() throws {
                let found = try InterfaceRecovery(journal: memory, of: keys, transmitRing: region, receiveRing: other)
                back = try BackRing(
                    resuming: region, TransmitRing(), consumed: found.transmit.consumed, published: found.transmit.published)
                journal = InterfaceJournal(resuming: memory)
                waiting = []
                for answer in found.unanswered { back.push(answer) }
                if Bool.random(using: &random) { _ = back.publish() }
            }
            try succeed()
            while let slot = try back.nextRequest() {
                _ = try packet.assemble(slot, from: &back)
                back.push(TransmitResponse(id: packet.parts[0].id, status: .okay))
                for _ in 0..<packet.extraCount { back.push(TransmitResponse(id: 0, status: .null)) }
                for part in packet.parts.dropFirst() { back.push(TransmitResponse(id: part.id, status: .okay)) }
            }
            _ = back.publish()
            try collect()
            #expect(answered == expected.count)
        }
    }
}
