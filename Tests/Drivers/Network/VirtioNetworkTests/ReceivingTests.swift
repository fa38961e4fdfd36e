// Frames from a device to a driver.

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

@Suite("virtio network: receiving") struct ReceivingTests {
    /// A rig's driver with both rings of a pair.
    private func driver(_ interface: VirtioInterface, _ features: VirtioFeatures, size: Int = 16) throws -> VhostDriver {
        let driver = try VhostDriver(interface, features: features)
        for ring in 0...1 { try driver.start(ring, size: size) }
        return driver
    }

    /// Expects a frame in one chain at a page.
    private func expect(
        _ bytes: [UInt8], in ticket: ChainTicket, page: Int, _ header: NetworkHeader = NetworkHeader(), of driver: VhostDriver
    ) throws {
        var header = header
        header.bufferCount = 1
        try driver.expectUsed(ticket, written: UInt32(12 + bytes.count), on: 0)
        #expect(driver.header(page: page) == header)
        #expect(driver.region.bytes(at: driver.place(page) + 12, count: bytes.count) == bytes)
    }

    @Test("frames lie behind their headers, however the memory is cut", arguments: RingKind.allCases, [false, true])
    func arrive(kind: RingKind, isMergeable: Bool) throws {
        let rig = try InterfaceRig()
        defer { rig.stop() }
        let interface = rig.interface()
        let driver = try driver(interface, isMergeable ? kind.features.union(.merging) : kind.features)
        defer { driver.leave() }
        let cuts: [[Int]] = [[], [12], [1, 1, 10], [5, 20, 1], [11, 1, 1], [12, 14]]
        var sum = 0
        for turn in 0..<5 {
            for (index, cut) in cuts.enumerated() {
                let ticket = try driver.give(2000, page: index, cut: cut)
                let bytes = frame(14 + 37 * (turn * cuts.count + index), seed: UInt8(index))
                try rig.port.send(bytes)
                try expect(bytes, in: ticket, page: index, of: driver)
                sum += bytes.count
            }
        }
        let counts = interface.counts
        #expect(counts.received == 30 && counts.receivedBytes == UInt64(sum) && counts.dropped == 0, "\(counts)")
    }

    @Test("a frame in several chains is shown as one, and each says how much of it it has", arguments: RingKind.allCases)
    func merged(kind: RingKind) throws {
        let rig = try InterfaceRig(mtu: 9000)
        defer { rig.stop() }
        let driver = try driver(rig.interface(), kind.features.union([.receiving, .merging]), size: 64)
        defer { driver.leave() }
        for turn in 0..<20 {
            // Memory for one frame and no more, so that the next one begins with the next chain.
            let count = [1499, 1500, 1501, 4000, 9014][turn % 5]
            let chains = (12 + count + 1511) / 1512
            var tickets: [ChainTicket] = []
            for index in 0..<chains { tickets.append(try driver.give(1512, page: index, cut: index % 2 == 0 ? [] : [700])) }
            let bytes = frame(count, seed: UInt8(turn))
            try rig.port.send(bytes)
            var found: [UInt8] = []
            for (index, ticket) in tickets.enumerated() {
                let written = min(1512, 12 + count - 1512 * index)
                try driver.expectUsed(ticket, written: UInt32(written), on: 0)
                found += driver.region.bytes(at: driver.place(index), count: written)
            }
            #expect(Int(driver.header(page: 0).bufferCount) == chains)
            #expect(Array(found.dropFirst(12)) == bytes)
        }
    }

    @Test("with memory for any frame each comes at once, in as many chains as it needs", arguments: RingKind.allCases)
    func mergedAtOnce(kind: RingKind) throws {
        let rig = try InterfaceRig()
        defer { rig.stop() }
        let driver = try driver(rig.interface(), kind.features.union([.receiving, .merging]), size: 128)
        defer { driver.leave() }
        var tickets: [ChainTicket] = []
        for index in 0..<100 { tickets.append(try driver.give(1512, page: index)) }
        var next = 0
        for (turn, count) in [60, 40_000, 1514, 9000, 60].enumerated() {
            let bytes = frame(count, seed: UInt8(turn))
            var (offload, header) = (FrameOffload(), NetworkHeader())
            if count > 1514 {
                offload.checksum = .init(start: 34, field: 16)
                offload.segmentation = .init(type: .tcp4, size: 1448, headerCount: 66)
                (header.flags, header.checksumStart, header.checksumOffset) = (1, 34, 16)
                (header.segmentation, header.segmentBytes, header.headerBytes) = (1, 1448, 66)
            }
            try rig.port.send(bytes, offload: offload)
            let first = next
            var found: [UInt8] = []
            while found.count < 12 + count {
                let written = min(1512, 12 + count - found.count)
                try driver.expectUsed(tickets[next], written: UInt32(written), on: 0)
                found += driver.region.bytes(at: driver.place(next), count: written)
                next += 1
            }
            header.bufferCount = UInt16(next - first)
            #expect(driver.header(page: first) == header)
            #expect(Array(found.dropFirst(12)) == bytes)
        }
    }

    @Test("VN8: a frame longer than the driver's memory is dropped, and the memory serves the next", arguments: RingKind.allCases)
    func VN8_tooLittleRoom(kind: RingKind) throws {
        let rig = try InterfaceRig()
        defer { rig.stop() }
        let interface = rig.interface()
        let driver = try driver(interface, kind.features)
        defer { driver.leave() }
        let small = try driver.give(12 + 60, page: 0)
        let none = try driver.give(12, page: 1)
        let large = try driver.give(2000, page: 2)
        try rig.port.send(frame(61))
        try rig.port.send(frame(60))
        try expect(frame(60), in: small, page: 0, of: driver)
        // Memory that holds a header and nothing else takes no frame; the driver has itself to thank.
        try rig.port.send(frame(60))
        try rig.port.send(frame(64))
        #expect(eventually(30_000) { interface.counts[.noRoom] == 3 })
        _ = (none, large)
        #expect(interface.counts.received == 1)
    }

    @Test("a frame waits for memory, and is whole when there is enough", arguments: RingKind.allCases)
    func waits(kind: RingKind) throws {
        let rig = try InterfaceRig()
        defer { rig.stop() }
        let interface = rig.interface()
        let driver = try driver(interface, kind.features.union([.receiving, .merging]))
        defer { driver.leave() }
        let bytes = frame(4000)
        try rig.port.send(bytes)
        try rig.port.send(frame(70))
        var tickets: [ChainTicket] = []
        for index in 0..<3 {
            sleepMilliseconds(20)
            #expect(try driver.queues[0]?.reap() == nil)
            tickets.append(try driver.give(1400, page: index))
        }
        var found: [UInt8] = []
        for (index, ticket) in tickets.enumerated() {
            let written = min(1400, 4012 - 1400 * index)
            try driver.expectUsed(ticket, written: UInt32(written), on: 0)
            found += driver.region.bytes(at: driver.place(index), count: written)
        }
        #expect(driver.header(page: 0).bufferCount == 3 && Array(found.dropFirst(12)) == bytes)
        try expect(frame(70), in: try driver.give(1400, page: 3), page: 3, of: driver)
    }

    @Test("VN9: a frame waits so long and no longer; who gives memory again gets frames again", arguments: RingKind.allCases)
    func VN9_patience(kind: RingKind) throws {
        let rig = try InterfaceRig()
        defer { rig.stop() }
        let interface = rig.interface(patienceMilliseconds: 50)
        let driver = try driver(interface, kind.features.union(.merging))
        defer { driver.leave() }
        // Too little for it, and all that there ever is.
        try driver.give(100, page: 0)
        for _ in 0..<20 { try rig.port.send(frame(1000), timeout: .seconds(30)) }
        // The one that waited; the others wait behind it, one after another, for as long again.
        #expect(eventually(30_000) { interface.counts[.expired] >= 2 })
        let large = try driver.give(4000, page: 1)
        try rig.port.send(frame(60, seed: 9), timeout: .seconds(30))
        _ = large
        #expect(eventually(30_000) { interface.counts.received >= 1 })
    }

    @Test("a checksum that the driver does not take blank is there", arguments: [VirtioFeatures.version1, [.version1, .merging]])
    func finished(features: VirtioFeatures) throws {
        let rig = try InterfaceRig()
        defer { rig.stop() }
        let interface = rig.interface()
        let driver = try driver(interface, features)
        defer { driver.leave() }
        // In one chain and, odd places apart, in several pieces of one.
        for (page, cut) in [[], [12, 35], [47, 4, 1]].enumerated() {
            let ticket = try driver.give(2000, page: page, cut: cut)
            var bytes = frame(101)
            var offload = FrameOffload()
            offload.checksum = .init(start: 34, field: 16)
            try rig.port.send(bytes, offload: offload)
            var sum = 0
            for place in stride(from: 34, to: 101, by: 2) {
                sum += Int(bytes[place]) << 8 | (place + 1 < 101 ? Int(bytes[place + 1]) : 0)
            }
            while sum > 0xFFFF { sum = (sum & 0xFFFF) + sum >> 16 }
            (bytes[50], bytes[51]) = (UInt8(~sum >> 8 & 0xFF), UInt8(~sum & 0xFF))
            try expect(bytes, in: ticket, page: page, of: driver)
        }
        // Outside the frame, and a frame to be cut up: nobody here can finish either.
        try driver.give(2000, page: 4)
        var offload = FrameOffload()
        offload.checksum = .init(start: 34, field: 100)
        try rig.port.send(frame(60), offload: offload)
        offload.checksum = .init(start: 34, field: 16)
        offload.segmentation = .init(type: .tcp4, size: 100, headerCount: 54)
        try rig.port.send(frame(1000), offload: offload)
        #expect(eventually(30_000) { interface.counts[.unfit] == 2 })
    }

    @Test("VN6, VN7: memory that cannot take a frame ends that ring, and no other", arguments: RingKind.allCases)
    func VN6_VN7_memoryForNothing(kind: RingKind) throws {
        let rig = try InterfaceRig()
        defer { rig.stop() }
        let interface = rig.interface()
        for wrong in 0..<4 {
            let driver = try VhostDriver(interface, features: kind.features)
            for ring in 0...1 { try driver.start(ring, size: 1024) }
            var chain = DescriptorChain()
            switch wrong {
            case 0: chain.appendReadable(driver.run(driver.place(0), 2000))
            case 1: chain.appendWritable(driver.run(driver.place(0), 11))
            case 2:
                chain.appendReadable(driver.run(driver.place(0), 1))
                chain.appendWritable(driver.run(driver.place(1), 2000))
            default: for index in 0..<513 { chain.appendWritable(driver.run(driver.place(0) + index, 1)) }
            }
            try driver.offer(chain, on: 0)
            #expect(eventually(30_000) { (try? waitReadable(driver.errors[0].descriptor.rawValue, milliseconds: 0)) == true })
            try driver.give(2000, page: 2)
            try rig.port.send(frame(60))
            try driver.send(frame: frame(70), page: 3)
            #expect(try rig.arrived() == PortFrame(frame(70)))
            #expect(try driver.queues[0]?.reap() == nil)
            driver.leave()
            // What nobody took is the next one's.
            let next = try self.driver(interface, kind.features)
            let fresh = try next.give(2000, page: 0)
            try expect(frame(60), in: fresh, page: 0, of: next)
            next.leave()
        }
        let words = rig.log.all.filter { $0.contains("ring 0") }
        #expect(words.count == 4 && words.allSatisfy { $0.contains("memory") }, "\(rig.log.all)")
    }
}
