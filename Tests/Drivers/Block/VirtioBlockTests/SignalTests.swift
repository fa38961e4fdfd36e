// A driver is told of every answer, whichever process tells it: what the one had no room for, the next one says.

import Connectors
import LinuxSystem
import ScriptedDevices
import TestSupport
import Testing
import VhostUser
import VirtioRing

@testable import VirtioBlock

@Suite("virtio disk: signals that a successor owes") struct SignalTests {
    /// Fills a call descriptor, so that an answer cannot be told.
    private func fill(_ call: Descriptor) {
        call.takeCount()
        #expect(call.addCount(Self.full))
    }
    private static let full = UInt64.max - 1

    @Test("a call for which there was no room is told by whoever goes on", arguments: RingKind.allCases, [false, true])
    func full(kind: RingKind, isSame: Bool) throws {
        let rig = try DiskRig()
        defer { rig.stop() }
        let (device, _) = try rig.file()
        let disk = rig.disk(device)
        let driver = try VhostDriver(disk, features: kind.features)
        defer { driver.leave() }
        try driver.start()
        let call = driver.calls[0].descriptor
        fill(call)
        #expect(try driver.perform(driver.request(.read, room: 512)).status == 0)
        let handover = try driver.putBy()
        #expect(call.takeCount() == Self.full)
        try driver.goOn(isSame ? disk : rig.disk(device), handover)
        #expect(try waitReadable(call.rawValue, milliseconds: 5000))
    }

    @Test("a call for which nobody had given a descriptor is told to the one that comes after the hand-over")
    func noDescriptor() throws {
        let rig = try DiskRig()
        defer { rig.stop() }
        let (device, _) = try rig.file()
        let driver = try VhostDriver(rig.disk(device), features: RingKind.split.features)
        defer { driver.leave() }
        try driver.start()
        // Bit 8: none.
        try driver.send(13, 1 << 8)
        #expect(try driver.perform(driver.request(.read, room: 512)).status == 0)
        try driver.goOn(rig.disk(device), driver.putBy())
        #expect(driver.calls[0].descriptor.takeCount() == 0)
        try driver.send(13, 0, descriptors: [driver.calls[0].descriptor])
        #expect(try waitReadable(driver.calls[0].descriptor.rawValue, milliseconds: 5000))
    }

    @Test("an answer that a killed process had shown and not told is told by its successor", arguments: RingKind.allCases)
    func killed(kind: RingKind) throws {
        let rig = try DiskRig()
        defer { rig.stop() }
        let (device, _) = try rig.file()
        let driver = try VhostDriver(rig.disk(device), features: kind.features, isKept: true)
        defer { driver.leave() }
        try driver.start()
        let call = driver.calls[0].descriptor
        fill(call)
        #expect(try driver.perform(driver.request(.read, room: 512)).status == 0)
        var kept = try #require(driver.record?.session.withLock { $0 })
        kept.wasKilled = true
        _ = try driver.putBy()
        #expect(call.takeCount() == Self.full)
        try driver.goOn(rig.disk(device), kept)
        #expect(try waitReadable(call.rawValue, milliseconds: 5000))
    }

    @Test("a call by message for which there was no room is told by the successor")
    func message() throws {
        let rig = try DiskRig()
        defer { rig.stop() }
        let (device, _) = try rig.file()
        let driver = try VhostDriver(rig.disk(device), features: RingKind.split.features, adding: .inBandNotifications)
        defer { driver.leave() }
        let (hears, speaks) = try StreamSocket.pair()
        try driver.send(21, descriptors: [speaks])
        try driver.start()
        try driver.send(35, words: 0, 0)
        let filler = FullSocket(speaks)
        _ = driver.queues[0]?.offer(driver.request(.read, room: 512).chain)
        _ = driver.queues[0]?.publish()
        try driver.send(35, words: 0, 0)
        #expect(try driver.reap().written == 513)
        let handover = try driver.putBy()
        try filler.drain(hears)
        try driver.goOn(rig.disk(device), handover)
        var heard: [UInt8] = []
        while heard.first != 4, try waitReadable(hears.rawValue, milliseconds: 5000) {
            heard = try StreamSocket.receive(hears.rawValue, capacity: 12, wait: true)
            // What it is about, if anything.
            if heard[8] > 0 { _ = try StreamSocket.receive(hears.rawValue, capacity: Int(heard[8]), wait: true) }
        }
        #expect(heard.first == 4)
    }

    @Test("a call descriptor that is made to block, and filled, holds no other disk of the same thread")
    func blocking() throws {
        let rig = try DiskRig()
        defer { rig.stop() }
        let (device, _) = try rig.file()
        let second = ScriptedDisk { _ in .done }
        let disk = rig.disk(device)
        let bad = try VhostDriver(disk, features: RingKind.split.features)
        let good = try VhostDriver(rig.disk(second), features: RingKind.split.features)
        for driver in [bad, good] { try driver.start() }
        let call = bad.calls[0].descriptor
        fill(call)
        for round in 0..<6 {
            try call.setNonBlocking(false)
            #expect(try bad.perform(bad.request(.read, room: 512)).status == 0, "\(round)")
            try good.offer(good.request(.write, give: Array(repeating: 1, count: 512)))
            let isAnswered = try eventually(5000) { try good.queues[0]?.reap() != nil }
            #expect(isAnswered)
            if !isAnswered { call.takeCount() }
        }
        disk.idle()
        #expect(rig.log.all.contains { $0.hasSuffix("are written no more") }, "\(rig.log.all)")
        for driver in [bad, good] { driver.leave() }
    }

    @Test("a kick descriptor is replaced while its ring runs, and no kick is lost between the two", arguments: RingKind.allCases)
    func kickReplaced(kind: RingKind) throws {
        let rig = try DiskRig()
        defer { rig.stop() }
        let (device, _) = try rig.file()
        let driver = try VhostDriver(rig.disk(device), features: kind.features)
        defer { driver.leave() }
        try driver.start()
        var kick = driver.kicks[0]
        for round in 0..<50 {
            let other = try EventCounter()
            // Kicked by the one, or by the other, in the midst of the change.
            _ = driver.queues[0]?.offer(driver.request(.read, room: 512).chain)
            if driver.queues[0]?.publish() == true, round % 2 == 0 { kick.ring() }
            try driver.send(12, 0, descriptors: [other.descriptor])
            if round % 2 == 1 { other.ring() }
            #expect(try driver.reap().written == 513, "round \(round)")
            // At rest, and only by the new one.
            sleepMilliseconds(2)
            _ = driver.queues[0]?.offer(driver.request(.read, room: 512).chain)
            if driver.queues[0]?.publish() == true { other.ring() }
            #expect(try driver.reap().written == 513, "round \(round)")
            kick = other
        }
        // Bit 8: none, and the ring is looked at.
        try driver.send(12, 1 << 8)
        _ = driver.queues[0]?.offer(driver.request(.read, room: 512).chain)
        _ = driver.queues[0]?.publish()
        #expect(try driver.reap().written == 513)
    }
}
