// Interfaces that are handed to a successor, or gone on with after a kill: the driver and whoever is at the other side
// of the wire notice nothing.

import Connectors
import LinuxSystem
import NetworkDevices
import Packets
import Reactor
import SharedMemory
import TestSupport
import Testing
import VhostUser
import VirtioRing
import VirtioWire

@testable import VirtioNetwork

@Suite("virtio network: another process goes on") struct SuccessionTests {
    @Test("frames that found no room stay in the ring, and the successor sends each once, in order", arguments: RingKind.allCases)
    func blocked(kind: RingKind) throws {
        let rig = try InterfaceRig()
        defer { rig.stop() }
        let interface = rig.interface()
        let driver = try VhostDriver(interface, features: kind.features)
        defer { driver.leave() }
        try driver.start(1, size: 512)
        // Each with bytes of its own, and with many that it shares with the others: more than the wire holds.
        for index in 0..<200 {
            NetworkHeader().store(driver.region, at: driver.place(index))
            driver.region.write(frame(64, seed: UInt8(index)), at: driver.place(index) + NetworkHeader.byteCount)
            var chain = DescriptorChain()
            chain.appendReadable(driver.run(driver.place(index), NetworkHeader.byteCount + 64))
            chain.appendReadable(driver.run(driver.place(500), 60_000))
            try driver.offer(chain, on: 1)
        }
        let hasBegun = eventually(30_000) { interface.counts.sent > 0 }
        #expect(hasBegun)
        let successor = rig.interface()
        try driver.goOn(with: successor, try driver.hold())
        for index in 0..<200 {
            let bytes = Array(try rig.arrived().bytes.prefix(64))
            try #require(bytes == frame(64, seed: UInt8(index)), "frame \(index)")
        }
        for _ in 0..<200 { _ = try driver.reap(on: 1) }
        let before = interface.counts.sent
        #expect(before < 200, "the device had room for all of them")
        let areSent = eventually(5000) { interface.counts.sent + successor.counts.sent == 200 }
        #expect(areSent, "\(interface.counts) \(successor.counts)")
        let (dropped, droppedLater) = (interface.counts.dropped, successor.counts.dropped)
        #expect(dropped == 0 && droppedLater == 0)
    }

    @Test("a frame that waits for memory waits with the successor, and comes once there is some", arguments: RingKind.allCases)
    func waiting(kind: RingKind) throws {
        let rig = try InterfaceRig()
        defer { rig.stop() }
        let interface = rig.interface()
        let driver = try VhostDriver(interface, features: kind.features.union(.merging))
        defer { driver.leave() }
        for ring in 0...1 { try driver.start(ring) }
        let first = try driver.give(600, page: 0)
        try rig.port.send(frame(1000))
        // It has been taken from the wire once there is room for many more of them there.
        sleepMilliseconds(100)
        try driver.goOn(with: rig.interface(), try driver.hold())
        let second = try driver.give(600, page: 1)
        try driver.expectUsed(first, written: 600, on: 0)
        try driver.expectUsed(second, written: 412, on: 0)
        let bytes = driver.region.bytes(at: driver.place(0) + 12, count: 588) + driver.region.bytes(at: driver.place(1), count: 412)
        #expect(bytes == frame(1000) && driver.header(page: 0).bufferCount == 2)
    }

    @Test("both sides see one carrier, whether a successor goes on or the same process", arguments: [false, true])
    func carrier(isSame: Bool) throws {
        let rig = try InterfaceRig()
        defer { rig.stop() }
        let device = WatchedNetwork()
        let interface = rig.interface(device)
        let driver = try VhostDriver(interface, features: .version1)
        for ring in 0...1 { try driver.start(ring) }
        let handover = try driver.hold()
        #expect(device.seen.withLock { $0 } == .init(carriers: [true], opened: 1))
        try driver.goOn(with: isSame ? interface : rig.interface(device), handover)
        try driver.send(frame: frame(60))
        _ = try driver.reap(on: 1)
        #expect(device.seen.withLock { $0 } == .init(carriers: [true], opened: isSame ? 1 : 2))
        driver.leave()
        #expect(device.seen.withLock { $0 } == .init(carriers: [true, false], opened: isSame ? 1 : 2, closed: 1))
    }

    @Test("frames in a cable reach the other end in the successor, which each end may have before the other")
    func cable() throws {
        let rig = try InterfaceRig(reactors: 1)
        defer { rig.stop() }
        let (links, others) = (NetworkLinks(), NetworkLinks())
        let end = try links.end(of: "a", to: "b", mtu: 1500)
        let other = try links.end(of: "b", to: "a", mtu: 1500)
        let one = try VhostDriver(rig.interface(end), features: .version1)
        let two = try VhostDriver(rig.interface(other), features: [.version1, .packedRing])
        defer {
            one.leave()
            two.leave()
        }
        for driver in [one, two] { for ring in 0...1 { try driver.start(ring) } }
        // The other end has no memory for them yet.
        for index in 0..<10 { try one.send(frame: frame(100 + index), page: index) }
        for _ in 0..<10 { _ = try one.reap(on: 1) }
        let (first, second) = (try one.hold(), try two.hold())
        let lifelines = (end.lifeline, other.lifeline)
        let successor = rig.interface(try others.end(of: "a", to: "b", mtu: 1500, resuming: lifelines.0))
        try one.goOn(with: successor, first)
        try one.send(frame: frame(110), page: 10)
        _ = try one.reap(on: 1)
        try two.goOn(with: rig.interface(try others.end(of: "b", to: "a", mtu: 1500, resuming: lifelines.1)), second)
        for index in 0...10 {
            let ticket = try two.give(600, page: index)
            try two.expectUsed(ticket, written: UInt32(112 + index), on: 0)
            #expect(two.region.bytes(at: two.place(index) + 12, count: 100 + index) == frame(100 + index))
        }
        let counts = successor.counts
        #expect(counts.dropped == 0, "\(counts)")
        try two.send(frame: frame(99), page: 20)
        let ticket = try one.give(600, page: 20)
        try one.expectUsed(ticket, written: 111, on: 0)
    }

    @Test("a successor of a killed process goes on by the rings, not by what was kept of them", arguments: RingKind.allCases)
    func killed(kind: RingKind) throws {
        let rig = try InterfaceRig()
        defer { rig.stop() }
        let driver = try VhostDriver(rig.interface(), features: kind.features, isKept: true)
        defer { driver.leave() }
        for ring in 0...1 { try driver.start(ring, size: 8) }
        for round in 0..<5 {
            // More than the rings have entries, so that their wrap counters turn. Chains of three: an answer skips two.
            for index in 0..<11 {
                try driver.send(frame: frame(60 + index), page: 8, cut: [12, 20])
                #expect(try rig.arrived().bytes == frame(60 + index))
                _ = try driver.reap(on: 1)
            }
            let given = try (0..<2).map { try driver.give(600, page: $0, cut: [100]) }
            try rig.port.send(frame(70 + round))
            try driver.expectUsed(given[0], written: UInt32(82 + round), on: 0)
            // As it was before the last of these: the process that is killed has no time to write anything down.
            var kept = try #require(driver.record?.session.withLock { $0 })
            kept.wasKilled = true
            _ = try driver.hold()
            try driver.goOn(with: rig.interface(), kept)
            try rig.port.send(frame(80 + round))
            try driver.expectUsed(given[1], written: UInt32(92 + round), on: 0)
            #expect(driver.region.bytes(at: driver.place(1) + 12, count: 80 + round) == frame(80 + round))
        }
        #expect(rig.log.all.allSatisfy { !$0.contains("ring") }, "\(rig.log.all)")
    }

    @Test("a call for which there was no room is told by whoever goes on", arguments: RingKind.allCases, [false, true])
    func owedCall(kind: RingKind, isKilled: Bool) throws {
        let rig = try InterfaceRig()
        defer { rig.stop() }
        let driver = try VhostDriver(rig.interface(), features: kind.features, isKept: isKilled)
        defer { driver.leave() }
        for ring in 0...1 { try driver.start(ring) }
        let (call, full) = (driver.calls[1].descriptor, UInt64.max - 1)
        #expect(call.addCount(full))
        try driver.send(frame: frame(60))
        _ = try driver.reap(on: 1)
        var kept = driver.record?.session.withLock { $0 }
        kept?.wasKilled = true
        let handover = try driver.hold()
        #expect(call.takeCount() == full)
        try driver.goOn(with: rig.interface(), kept ?? handover)
        #expect(try waitReadable(call.rawValue, milliseconds: 5000))
    }

    @Test("kick descriptors are replaced while rings run, both ways", arguments: RingKind.allCases)
    func kickReplaced(kind: RingKind) throws {
        let rig = try InterfaceRig()
        defer { rig.stop() }
        let driver = try VhostDriver(rig.interface(), features: kind.features)
        defer { driver.leave() }
        for ring in 0...1 { try driver.start(ring) }
        for round in 0..<10 {
            sleepMilliseconds(2)
            // What rang the one rings the other from now on, and the other way round.
            let (one, two) = round % 2 == 0 ? (1, 0) : (0, 1)
            for (ring, kick) in [(0, one), (1, two)] {
                try driver.send(12, UInt64(ring), descriptors: [driver.kicks[kick].descriptor])
            }
            // The ring's own number is no longer its kick's.
            let queue = try #require(driver.queues[1])
            NetworkHeader().store(driver.region, at: driver.place(0))
            driver.region.write(frame(60 + round), at: driver.place(0) + NetworkHeader.byteCount)
            var chain = DescriptorChain()
            chain.appendReadable(driver.run(driver.place(0), NetworkHeader.byteCount + 60 + round))
            _ = queue.offer(chain)
            if queue.publish() { driver.kicks[two].ring() }
            #expect(try rig.arrived().bytes == frame(60 + round))
            _ = try driver.reap(on: 1)
        }
    }
}
