// A backend dies under a frontend in the same process, and its successor goes on with the same rings.

import Foundation
import Hypervisor
import LinuxSystem
import MockPeers
@testable import NetworkBackend
import NetworkFrontend
import NetworkProtocol
import SharedMemory
import SharedRing
import Testing
import TestSupport
import XenTypes

extension TemporaryDirectory {
    /// The journals in it.
    var files: [String] { (try? FileManager.default.contentsOfDirectory(atPath: path))?.filter { $0.hasSuffix(".journal") } ?? [] }
}

@Suite("Adoption of rings", .timeLimit(.minutes(2)), .serialized)
struct AdoptionTests {
    private func options(_ directory: TemporaryDirectory) -> NetworkBackendOptions {
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
        let directory = try TemporaryDirectory()
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
        let directory = try TemporaryDirectory()
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
        let directory = try TemporaryDirectory()
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
        let directory = try TemporaryDirectory()
        let pair = try NetworkPair(options(directory), backendDomain: 3)
        let raw = try MockNetworkFrontend(pair, keys: ["ctrl-ring-ref": ""])
        try raw.wait(for: [.connected])
        #expect(try pair.serves(raw))
        pair.backend.killAtOnce()
        raw.transmitPage.region.storeReleasing(lie, at: RingHeader.responseProduced)
        let next = try RunningBackend(pair.host, domain: 3, options(directory), device: pair.backWire.network)
        try raw.wait(for: [.closing])
        #expect(next.log.contains { $0.contains("cannot take over") })
        try raw.close()
        next.stop()
        #expect(directory.files.isEmpty)
    }
}
