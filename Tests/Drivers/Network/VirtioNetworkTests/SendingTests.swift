// Frames from a driver to a device.

import Connectors
import LinuxSystem
import NetworkDevices
import Packets
import SharedMemory
import TestSupport
import Testing
import VirtioRing
import VirtioWire

@testable import VirtioNetwork

@Suite("virtio network: sending") struct SendingTests {
    @Test("frames arrive as they were sent, however they are cut", arguments: RingKind.allCases)
    func arrive(kind: RingKind) throws {
        let rig = try InterfaceRig()
        defer { rig.stop() }
        let interface = rig.interface()
        let driver = try VhostDriver(interface, features: kind.features)
        defer { driver.leave() }
        for ring in 0...1 { try driver.start(ring) }
        let cuts: [[Int]] = [[], [12], [1, 1, 10], [5, 20, 1], [11, 1, 1], [12, 14], [12, 20, 7]]
        var sent: UInt64 = 0
        // More than once around the ring, which has sixteen entries.
        for (turn, count) in [14, 60, 1514, 4000, 60, 61, 62, 63, 64].enumerated() {
            for cut in cuts where cut.reduce(0, +) < count {
                let bytes = frame(count, seed: UInt8(turn))
                let ticket = try driver.send(frame: bytes, cut: cut)
                try driver.expectUsed(ticket, written: 0, on: 1)
                #expect(try rig.arrived() == PortFrame(bytes))
                sent += 1
            }
        }
        let counts = interface.counts
        #expect(counts.sent == sent && counts.dropped == 0, "\(counts)")
    }

    @Test("what is left to be done in a frame is told the device", arguments: [RingKind.split, .packedWithEvents])
    func offloads(kind: RingKind) throws {
        let rig = try InterfaceRig()
        defer { rig.stop() }
        let driver = try VhostDriver(rig.interface(), features: kind.features.union(.sending))
        defer { driver.leave() }
        try driver.start(1)
        var header = NetworkHeader()
        (header.flags, header.checksumStart, header.checksumOffset) = (NetworkHeader.needsChecksum, 34, 16)
        try driver.send(frame: frame(100), header)
        var expected = FrameOffload()
        expected.checksum = .init(start: 34, field: 16)
        #expect(try rig.arrived() == PortFrame(frame(100), offload: expected))
        (header.segmentation, header.segmentBytes, header.headerBytes) = (NetworkHeader.tcp4, 1448, 66)
        try driver.send(frame: frame(60_000), header, page: 1, cut: [12, 66])
        expected.segmentation = .init(type: .tcp4, size: 1448, headerCount: 66)
        #expect(try rig.arrived() == PortFrame(frame(60_000), offload: expected))
    }

    @Test("VN1, VN2: frames that make no sense are answered, counted by their reasons and not sent", arguments: RingKind.allCases)
    func VN1_VN2_nonsense(kind: RingKind) throws {
        let rig = try InterfaceRig()
        defer { rig.stop() }
        let interface = rig.interface()
        let driver = try VhostDriver(interface, features: kind.features)
        defer { driver.leave() }
        for ring in 0...1 { try driver.start(ring, size: 1024) }
        func offer(_ runs: [(Int, Int)], writable: Int = 0) throws {
            var chain = DescriptorChain()
            for (offset, count) in runs { chain.appendReadable(driver.run(driver.place(0) + offset, count)) }
            if writable > 0 { chain.appendWritable(driver.run(driver.place(64), writable)) }
            let ticket = try driver.offer(chain, on: 1)
            try driver.expectUsed(ticket, written: 0, on: 1)
        }
        NetworkHeader().store(driver.region, at: driver.place(0))
        try offer([(0, 1)])
        try offer([(0, 11)])
        try offer([(0, 6), (6, 5)])
        try offer([(0, 12)])
        try offer([(0, 25)])
        try offer([(0, 12), (12, 65554)])
        try offer([], writable: 100)
        try offer([(0, 12), (12, 60)], writable: 1)
        try offer((0..<513).map { ($0, 1) })
        var header = NetworkHeader()
        header.flags = NetworkHeader.needsChecksum
        header.store(driver.region, at: driver.place(0))
        try offer([(0, 100)])
        (header.flags, header.segmentation) = (0, NetworkHeader.tcp4)
        header.store(driver.region, at: driver.place(0))
        try offer([(0, 100)])
        try driver.send(frame: frame(60), page: 100)
        #expect(try rig.arrived() == PortFrame(frame(60)))
        let counts = interface.counts
        let expected: [FrameFault: UInt64] = [
            .noHeader: 3, .tooShort: 2, .tooLong: 1, .writableMemory: 2, .tooManyPieces: 1, .checksumNotAgreed: 1,
            .segmentsNotAgreed: 1,
        ]
        for fault in FrameFault.allCases { #expect(counts[fault] == expected[fault] ?? 0, "\(fault)") }
        #expect(counts.sent == 1)
    }

    @Test("what is sent by a ring that is not enabled is discarded", arguments: RingKind.allCases)
    func notEnabled(kind: RingKind) throws {
        let rig = try InterfaceRig()
        defer { rig.stop() }
        let interface = rig.interface()
        let driver = try VhostDriver(interface, features: kind.features)
        defer { driver.leave() }
        try driver.start(1, isEnabled: false)
        for _ in 0..<40 {
            let ticket = try driver.send(frame: frame(60))
            #expect(try driver.reap(on: 1).ticket == ticket)
        }
        #expect(interface.counts[.notEnabled] == 40)
        try driver.send(18, words: 1, 1)
        try driver.send(frame: frame(61))
        #expect(try rig.arrived() == PortFrame(frame(61)))
        try driver.send(18, words: 1, 0)
        _ = try driver.reap(on: 1)
        try driver.send(frame: frame(62))
        _ = try driver.reap(on: 1)
        #expect(interface.counts[.notEnabled] == 41 && interface.counts.sent == 1)
    }

    @Test("what the device has no room for waits in order, and a ring that is stopped meanwhile answers it")
    func fullDevice() throws {
        let rig = try InterfaceRig()
        defer { rig.stop() }
        let interface = rig.interface()
        let driver = try VhostDriver(interface, features: .version1)
        defer { driver.leave() }
        try driver.start(1, size: 256)
        // A pair of sockets holds `net.unix.max_dgram_qlen` frames, or fewer of this size.
        var (sent, answered) = (0, 0)
        func offerAll() throws {
            while sent < 200 {
                try driver.send(frame: frame(64, seed: UInt8(sent)), page: sent)
                sent += 1
            }
        }
        try offerAll()
        #expect(eventually(30_000) { interface.counts.sent > 0 })
        for index in 0..<150 { #expect(try rig.arrived().bytes == frame(64, seed: UInt8(index))) }
        while answered < 150 {
            _ = try driver.reap(on: 1)
            answered += 1
        }
        // What is left is in the device or discarded; each is answered once.
        try driver.send(11, words: 1, 0)
        while answered < 200 {
            _ = try driver.reap(on: 1)
            answered += 1
        }
        let counts = interface.counts
        #expect(counts.sent + counts[.notEnabled] == 200, "\(counts)")
    }

    @Test("two queues have a ring each, and go to the same device")
    func twoQueues() throws {
        let rig = try InterfaceRig(reactors: 2)
        defer { rig.stop() }
        let interface = rig.interface(queues: 2)
        #expect(interface.offer.queues == 2 && interface.offer.rings == 4)
        let driver = try VhostDriver(interface, features: .version1, rings: 4)
        defer { driver.leave() }
        for ring in 0..<4 { try driver.start(ring) }
        for index in 0..<8 {
            try driver.send(frame: frame(64, seed: UInt8(index)), page: index, on: index % 2 == 0 ? 1 : 3)
            #expect(try rig.arrived().bytes == frame(64, seed: UInt8(index)))
        }
        #expect(interface.counts.sent == 8)
    }
}
