// Kicks, calls and errors as messages, for front ends that simulate and want to know when everything is done.

import Connectors
import BlockDevices
import LinuxSystem
import ScriptedDevices
import SharedMemory
import TestSupport
import Testing
import VhostUser
import VirtioRing
import VirtioWire

@testable import VirtioBlock

@Suite("virtio disk: signals by messages") struct InBandTests {
    /// A driver without descriptors to ring, and the socket on which it hears.
    private func driver(_ rig: DiskRig, _ kind: RingKind) throws -> (VhostDriver, hears: Descriptor, speaks: Descriptor) {
        let driver = try VhostDriver(rig.disk(try rig.file().0), features: kind.features, adding: .inBandNotifications)
        let (ours, theirs) = try StreamSocket.pair()
        try driver.send(21, descriptors: [theirs])
        return (driver, ours, theirs)
    }

    /// The next message's number and what it is about; nil: there is none for so long.
    private func next(_ socket: Descriptor, milliseconds: Int32 = 20000) throws -> [UInt8]? {
        guard try waitReadable(socket.rawValue, milliseconds: milliseconds) else { return nil }
        return try StreamSocket.receive(socket.rawValue, capacity: 20, wait: true)
    }

    private func message(_ code: UInt8, ring: UInt8 = 0) -> [UInt8] {
        [code, 0, 0, 0, 1, 0, 0, 0, 8, 0, 0, 0, ring, 0, 0, 0, 0, 0, 0, 0]
    }

    @Test("a message starts a ring, later ones kick it, and answers are told by messages", arguments: [RingKind.split, .packed])
    func kicksAndCalls(kind: RingKind) throws {
        let rig = try DiskRig()
        defer { rig.stop() }
        let (driver, hears, _) = try driver(rig, kind)
        defer { driver.leave() }
        try driver.start()
        for turn in 0..<3 {
            _ = driver.queues[0]?.offer(driver.request(.read, page: turn, room: 512).chain)
            _ = driver.queues[0]?.publish()
            // Nobody looks without being asked.
            if turn == 1 { #expect(try next(hears, milliseconds: 100) == nil) }
            try driver.send(35, words: 0, 0)
            #expect(try driver.reap().written == 513)
            #expect(try next(hears) == message(4))
        }
    }

    @Test("a call for which there is no room is told when there is")
    func noRoom() throws {
        let rig = try DiskRig()
        defer { rig.stop() }
        let (driver, hears, speaks) = try driver(rig, .split)
        defer { driver.leave() }
        try driver.start()
        try driver.send(35, words: 0, 0)
        let filler = FullSocket(speaks)
        _ = driver.queues[0]?.offer(driver.request(.read, room: 512).chain)
        _ = driver.queues[0]?.publish()
        try driver.send(35, words: 0, 0)
        #expect(try driver.reap().written == 513)
        try filler.drain(hears)
        #expect(try next(hears) == message(4))
    }

    @Test("a ring that makes no sense is told by a message; a front end that has gone deaf holds nobody")
    func errors() throws {
        let rig = try DiskRig()
        defer { rig.stop() }
        let (driver, hears, _) = try driver(rig, .split)
        try driver.start()
        try driver.send(35, words: 0, 0)
        var bad = VhostDriver.Request()
        bad.chain.appendReadable(GuestRun(address: 0, byteCount: 16))
        _ = driver.queues[0]?.offer(bad.chain)
        _ = driver.queues[0]?.publish()
        try driver.send(35, words: 0, 0)
        #expect(try next(hears) == message(5))
        hears.shutDown()
        driver.leave()
        #expect(driver.ended.all == ["left"])
    }

    @Test("a call descriptor that comes later is preferred", arguments: RingKind.allCases)
    func descriptorLater(kind: RingKind) throws {
        let rig = try DiskRig()
        defer { rig.stop() }
        let (driver, hears, _) = try driver(rig, kind)
        defer { driver.leave() }
        try driver.start()
        try driver.send(35, words: 0, 0)
        try driver.send(13, 0, descriptors: [driver.calls[0].descriptor])
        _ = driver.queues[0]?.offer(driver.request(.read, room: 512).chain)
        _ = driver.queues[0]?.publish()
        try driver.send(35, words: 0, 0)
        #expect(try driver.reap().written == 513)
        #expect(try waitReadable(driver.calls[0].descriptor.rawValue, milliseconds: 20000))
        #expect(try next(hears, milliseconds: 0) == nil)
    }
}
