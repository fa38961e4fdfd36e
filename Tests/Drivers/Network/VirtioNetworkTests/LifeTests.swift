// A ring's life and a session's: starts, stops, memory that changes, front ends that vanish, what a front end asks of
// an interface.

import Connectors
import DMA
import LinuxSystem
import NetworkDevices
import Packets
import SharedMemory
import Synchronization
import TestSupport
import Testing
import VhostUser
import VirtioRing
import VirtioWire

@testable import VirtioNetwork

@Suite("virtio network: rings come and go") struct LifeTests {
    private func base(_ payload: [UInt8]) -> UInt32 { payload.suffix(4).reversed().reduce(0) { $0 << 8 | UInt32($1) } }

    @Test(
        "a ring that is stopped gives the memory back that it has not used, and goes on there", arguments: RingKind.allCases,
        [false, true])
    func stop(kind: RingKind, isMergeable: Bool) throws {
        let rig = try InterfaceRig()
        defer { rig.stop() }
        let isPacked = kind.features.contains(.packedRing)
        let driver = try VhostDriver(rig.interface(), features: isMergeable ? kind.features.union(.merging) : kind.features)
        defer { driver.leave() }
        for ring in 0...1 { try driver.start(ring, size: 8) }
        var tickets: [ChainTicket] = []
        for index in 0..<6 { tickets.append(try driver.give(600, page: index)) }
        try rig.port.send(frame(60))
        try driver.expectUsed(tickets[0], written: 72, on: 0)
        for round in 1..<4 {
            let stopped = base(try driver.send(11, words: 0, 0))
            #expect(stopped & 0xFF == round, "\(stopped)")
            if isPacked { #expect(stopped >> 16 == stopped & 0xFFFF) }
            #expect(try driver.queues[0]?.reap() == nil)
            try driver.resume(0, base: stopped)
            try rig.port.send(frame(60 + round))
            try driver.expectUsed(tickets[round], written: UInt32(72 + round), on: 0)
            #expect(driver.region.bytes(at: driver.place(round) + 12, count: 60 + round) == frame(60 + round))
        }
    }

    @Test("frames come to a ring when it is enabled, and not before", arguments: RingKind.allCases)
    func enable(kind: RingKind) throws {
        let rig = try InterfaceRig()
        defer { rig.stop() }
        let driver = try VhostDriver(rig.interface(), features: kind.features)
        defer { driver.leave() }
        try driver.start(0, isEnabled: false)
        let ticket = try driver.give(600, page: 0)
        try rig.port.send(frame(60))
        sleepMilliseconds(50)
        #expect(try driver.queues[0]?.reap() == nil)
        for _ in 0..<3 {
            try driver.send(18, words: 0, 1)
            try driver.send(18, words: 0, 0)
        }
        try driver.send(18, words: 0, 1)
        try driver.expectUsed(ticket, written: 72, on: 0)
    }

    @Test("memory that changes while chains are out is found in the new table", arguments: [[], VirtioFeatures.merging])
    func otherMemory(features: VirtioFeatures) throws {
        let rig = try InterfaceRig()
        defer { rig.stop() }
        let driver = try VhostDriver(rig.interface(), features: features.union(.version1), pages: 512)
        defer { driver.leave() }
        for ring in 0...1 { try driver.start(ring) }
        var tickets: [ChainTicket] = []
        for index in 0..<3 { tickets.append(try driver.give(600, page: index)) }
        try rig.port.send(frame(60))
        try driver.expectUsed(tickets[0], written: 72, on: 0)
        try driver.addMoreMemory()
        try rig.port.send(frame(61))
        try driver.expectUsed(tickets[1], written: 73, on: 0)
        #expect(driver.region.bytes(at: driver.place(1) + 12, count: 61) == frame(61))
        try driver.sendTable()
        try rig.port.send(frame(63))
        try driver.expectUsed(tickets[2], written: 75, on: 0)
        #expect(driver.region.bytes(at: driver.place(2) + 12, count: 63) == frame(63))
        try driver.send(frame: frame(62), page: 8)
        #expect(try rig.arrived() == PortFrame(frame(62)))
    }

    @Test("VN11: memory for frames that is taken away ends the ring that has it", arguments: [[], VirtioFeatures.merging])
    func VN11_memoryGone(features: VirtioFeatures) throws {
        let rig = try InterfaceRig()
        defer { rig.stop() }
        let interface = rig.interface()
        let driver = try VhostDriver(interface, features: features.union(.version1))
        defer { driver.leave() }
        for ring in 0...1 { try driver.start(ring) }
        try driver.addMoreMemory()
        var chain = DescriptorChain()
        chain.appendWritable(GuestRun(address: VhostDriver.guestBase << 1, byteCount: 600))
        try driver.offer(chain, on: 0)
        // What is no frame has the chain taken, and leaves it.
        try rig.port.send([1])
        #expect(eventually(30_000) { interface.counts[.tooShort] == 1 })
        try driver.removeMoreMemory()
        #expect(eventually(30_000) { (try? waitReadable(driver.errors[0].descriptor.rawValue, milliseconds: 0)) == true })
        #expect(rig.log.all == ["rig: ring 0: memory for a frame that was taken away"])
        try driver.send(frame: frame(62), page: 8)
        #expect(try rig.arrived() == PortFrame(frame(62)))
    }

    @Test("a front end that vanishes is followed by the next, and nothing of it stays", arguments: RingKind.allCases)
    func vanishes(kind: RingKind) throws {
        let (openBefore, mappedBefore) = (Descriptor.openCount, SharedRegion.liveCount)
        do {
            let rig = try InterfaceRig()
            defer { rig.stop() }
            let interface = rig.interface()
            for turn in 0..<5 {
                let driver = try VhostDriver(interface, features: kind.features)
                for ring in 0...1 { try driver.start(ring) }
                for index in 0..<4 { try driver.give(600, page: index) }
                try driver.send(frame: frame(60, seed: UInt8(turn)), page: 8)
                #expect(try rig.arrived().bytes == frame(60, seed: UInt8(turn)))
                driver.leave()
            }
            #expect(interface.counts.sent == 5)
            #expect(rig.log.all.last == "\(interface.counts)")
        }
        #expect(eventually(30_000) { Descriptor.openCount == openBefore && SharedRegion.liveCount == mappedBefore })
    }

    @Test("an announcement goes out as a reverse ARP request of the address")
    func announcement() throws {
        let rig = try InterfaceRig()
        defer { rig.stop() }
        let driver = try VhostDriver(rig.interface(), features: .version1)
        defer { driver.leave() }
        for round in 0..<2 {
            // Before the rings run, and while they do.
            if round == 1 { for ring in 0...1 { try driver.start(ring) } }
            try driver.send(19, 0x0605_0403_0200)
            let bytes = try rig.arrived().bytes
            let own: [UInt8] = [0x00, 0x02, 0x03, 0x04, 0x05, 0x06]
            #expect(bytes.count == 60)
            #expect(Array(bytes[0..<22]) == [255, 255, 255, 255, 255, 255] + own + [0x80, 0x35, 0, 1, 8, 0, 6, 4, 0, 3])
            #expect(Array(bytes[22..<42]) == own + [0, 0, 0, 0] + own + [0, 0, 0, 0])
        }
    }

    @Test("VN10: an MTU that no frame has, features that were not offered and drivers of before virtio 1.0 are refused")
    func VN10_refused() throws {
        let rig = try InterfaceRig()
        defer { rig.stop() }
        let driver = try VhostDriver(rig.interface(), features: [])
        defer { driver.leave() }
        try driver.send(20, 1500)
        try driver.send(20, 65535)
        driver.expectsAgreement = false
        for mtu: UInt64 in [0, 67, 65536, .max] { #expect(try driver.send(20, mtu).contains { $0 != 0 }, "\(mtu)") }
        // ECN, UDP fragments and the control queue.
        for bit in [9, 10, 13, 14, 17] { #expect(try driver.send(2, 1 << UInt64(bit) | 1 << 30).contains { $0 != 0 }, "\(bit)") }
        try driver.begin(0, size: 16)
        #expect(driver.lastAnswer.contains { $0 != 0 })
    }

    @Test("the device is told what the driver takes, and whether there is one")
    func told() throws {
        let rig = try InterfaceRig()
        defer { rig.stop() }
        let device = WatchedNetwork()
        let driver = try VhostDriver(
            rig.interface(device),
            features: [.version1, VirtioFeatures.Network.guestChecksum, VirtioFeatures.Network.guestTSO6])
        for ring in 0...1 { try driver.start(ring, isEnabled: false) }
        #expect(device.seen.withLock { $0 } == .init(offloads: [.checksum, .tcp6]))
        try driver.send(18, words: 1, 1)
        try driver.send(18, words: 0, 1)
        #expect(device.seen.withLock { $0 } == .init(offloads: [.checksum, .tcp6], carriers: [true], opened: 1))
        try driver.send(18, words: 1, 0)
        try driver.send(18, words: 0, 0)
        #expect(device.seen.withLock { $0 } == .init(offloads: [.checksum, .tcp6], carriers: [true, false], opened: 1, closed: 1))
        try driver.send(18, words: 0, 1)
        driver.leave()
        let end = WatchedNetwork.Seen(offloads: [.checksum, .tcp6], carriers: [true, false, true, false], opened: 2, closed: 2)
        #expect(device.seen.withLock { $0 } == end)
    }

    @Test("two drivers at the ends of a cable reach each other, whatever each takes")
    func cable() throws {
        let rig = try InterfaceRig(reactors: 2)
        defer { rig.stop() }
        let links = NetworkLinks()
        let one = try VhostDriver(
            rig.interface(try links.end(of: "a", to: "b", mtu: 1500)), features: [.version1, .sending, .receiving, .merging])
        let other = try VhostDriver(rig.interface(try links.end(of: "b", to: "a", mtu: 1500)), features: [.version1, .packedRing])
        defer {
            one.leave()
            other.leave()
        }
        for driver in [one, other] { for ring in 0...1 { try driver.start(ring) } }
        for turn in 0..<20 {
            let (first, second) = (try one.give(2000, page: turn), try other.give(2000, page: turn))
            try one.send(frame: frame(100 + turn), page: 40 + turn)
            try other.expectUsed(second, written: UInt32(112 + turn), on: 0)
            #expect(other.region.bytes(at: other.place(turn) + 12, count: 100 + turn) == frame(100 + turn))
            try other.send(frame: frame(200 + turn), page: 40 + turn)
            try one.expectUsed(first, written: UInt32(212 + turn), on: 0)
            #expect(one.region.bytes(at: one.place(turn) + 12, count: 200 + turn) == frame(200 + turn))
            _ = (try one.reap(on: 1), try other.reap(on: 1))
        }
    }
}

/// A device that swallows frames and writes down what it is told.
final class WatchedNetwork: NetworkDevice {
    struct Seen: Equatable {
        var offloads: OffloadSet = []
        var carriers: [Bool] = []
        var opened = 0
        var closed = 0
    }
    let name = "watched"
    let mtu = 1500
    let seen = Mutex(Seen())

    func setOffloads(_ offloads: OffloadSet) throws(Errno) { seen.withLock { $0.offloads = offloads } }
    func setCarrier(_ isUp: Bool) throws(Errno) { seen.withLock { $0.carriers.append(isUp) } }
    func openQueue(bus: MemoryBus) throws(Errno) -> any NetworkDeviceQueue {
        seen.withLock { $0.opened += 1 }
        return Queue(self)
    }

    final class Queue: NetworkDeviceQueue {
        let device: WatchedNetwork
        let statistics = NetworkDeviceStatistics()
        let descriptor: Descriptor? = nil
        init(_ device: WatchedNetwork) { self.device = device }
        func send(_ offload: FrameOffload, segments: Span<BusSegment>) -> FrameSent { .sent }
        func flush(_ ended: inout [FrameSent]) {}
        func receive(into segments: Span<BusSegment>) -> FrameReceived { .nothing }
        func close() { device.seen.withLock { $0.closed += 1 } }
    }
}
