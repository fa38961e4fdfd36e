// A flat device behind a vhost-user socket: its configuration space, and nothing else.

import Connectors
import DeviceBus
import LinuxSystem
import PageDevices
import TestSupport
import Testing
import VirtioBus
import VirtioWire

@Suite(.serialized, .timeLimit(.minutes(1))) struct VhostFlatTests {
    private func question(_ offset: UInt32, _ count: UInt32, _ bytes: [UInt8]) -> [UInt8] {
        [offset, count, 0].flatMap { WireNumber.bytes($0) } + bytes
    }

    @Test func PG7_configurationOutsideWhatThereIs() throws {
        let (bus, log) = (DeviceBus(name: "lab"), LineCollector())
        let balloon = Balloon(mostPages: 1000)
        try balloon.setTarget(0x0102)
        try bus.add(FlatBusDevice(balloon, name: "balloon"))
        let device = VhostFlatDevice("balloon", on: bus.join()) { log.add($0) }
        let driver = try VhostDriver(
            device, features: .version1, rings: 0, pages: 1, agreeing: [.replyAck, .configuration, .memorySlots])
        driver.expectsAgreement = false
        // More than there is: zero-filled to the asked length.
        let long = try driver.exchange(24, question(0, 256, [UInt8](repeating: 0, count: 256)), [])
        #expect(Array(long.dropFirst(12)) == [2, 1, 0, 0, 0, 0, 0, 0] + [UInt8](repeating: 0, count: 248))
        let beyond = try driver.exchange(24, question(200, 8, [UInt8](repeating: 0, count: 8)), [])
        #expect(Array(beyond.dropFirst(12)) == [UInt8](repeating: 0, count: 8))
        // What is not the driver's, half a field, too many pages, beyond the end.
        for (offset, bytes): (UInt32, [UInt8]) in [
            (0, [9, 0, 0, 0]), (4, [1]), (4, [0xFF, 0xFF, 0xFF, 0xFF]), (6, [1, 2, 3, 4]), (200, [1, 2, 3, 4]),
        ] {
            let answer = try driver.exchange(25, question(offset, UInt32(bytes.count), bytes), [])
            #expect(answer.contains { $0 != 0 }, "\(offset): \(bytes)")
        }
        #expect(balloon.actual == 0 && balloon.target == 0x0102)
        // A ring it does not have.
        #expect(try driver.send(8, words: 0, 16).contains { $0 != 0 })
        let good = try driver.exchange(25, question(4, 4, [7, 0, 0, 0]), [])
        #expect(good.allSatisfy { $0 == 0 } && balloon.actual == 7)
        // Taken from its bus: zeroes, and words in the log.
        try bus.drop("balloon")
        let gone = try driver.exchange(24, question(0, 8, [UInt8](repeating: 0, count: 8)), [])
        #expect(Array(gone.dropFirst(12)) == [UInt8](repeating: 0, count: 8) && !log.all.isEmpty)
        driver.leave()
        #expect(balloon.watchers.count == 0)
    }

    /// A front end that does not read is told when it does.
    @Test func aChangeThatCannotBeToldIsOwed() throws {
        let (bus, clock) = (DeviceBus(name: "lab"), HostClock(time: ManualClock()))
        try bus.add(FlatBusDevice(clock, name: "clock"))
        let device = VhostFlatDevice("clock", on: bus.join())
        let (ours, theirs) = try StreamSocket.pair()
        _ = try device.perform(.backendSocket(theirs))
        for _ in 0..<100_000 { clock.look() }
        var count = 0
        while let bytes = try? StreamSocket.receive(ours.rawValue, capacity: 1 << 20, wait: false), !bytes.isEmpty {
            count += bytes.count
        }
        #expect(count > 0 && count % 12 == 0)
        device.idle()
        #expect(try StreamSocket.receive(ours.rawValue, capacity: 1 << 20, wait: false).count == 12)
        device.idle()
        #expect((try? StreamSocket.receive(ours.rawValue, capacity: 1 << 20, wait: false)) == nil)
        device.disconnected()
        #expect(clock.watchers.count == 0)
    }
}
