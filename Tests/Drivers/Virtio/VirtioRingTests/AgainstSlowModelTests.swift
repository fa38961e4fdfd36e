// Both ends against the slow device, for every kind of ring: our device sees what it sees at every step, and what our
// driver writes is what it reads.

import SharedMemory
import Testing
import TestSupport
import VirtioModel
@testable import VirtioRing
import VirtioWire

/// What the driver has out, in the order in which the device should say that it is used.
private struct Out {
    var offered: [SlowChain] = []
    var taken: [SlowChain] = []
    var put: [(chain: SlowChain, written: UInt32)] = []
}

/// A driver of ours; our device or none; the slow device beside it, or in its place.
private struct Walk<Driver: DriverRing & ~Copyable, Device: DeviceRing & ~Copyable>: ~Copyable {
    let rig: Rig
    var driver: Driver
    var device: Device
    /// Our device is in use, the slow one beside it; else the slow one alone.
    let isReal: Bool
    var slow: any SlowDevice
    var random: SplitMix
    var chain = DescriptorChain()
    var out = Out()
    /// What the driver has shown and the device has not taken.
    var shown = 0
    /// When the device wants to be kicked.
    var kicks = Kicks.always
    /// The driver looked in vain and sleeps.
    var driverSleeps = false

    enum Kicks { case always, once, never, any }

    mutating func offer() {
        Rig.fill(&chain, most: min(4, rig.shape.size), &random)
        let needs = rig.shape.tables && chain.runs.count > 1 ? 1 : chain.runs.count
        let mayFit = needs <= driver.freeEntries
        let ticket = driver.offer(chain)
        #expect((ticket != nil) == mayFit, "\(rig.shape)")
        guard let ticket else { return }
        var expected = SlowChain(chain)
        (expected.id, expected.entries) = (Int(ticket.id), Int(ticket.entries))
        #expect(expected.entries == needs)
        out.offered.append(expected)
    }

    mutating func publish() {
        let kick = driver.publish()
        guard out.offered.count > shown else {
            #expect(!kick, "nothing was offered")
            return
        }
        switch kicks {
        case .always: #expect(kick, "\(rig.shape)")
        case .never: #expect(!kick, "\(rig.shape)")
        case .once:
            #expect(kick, "\(rig.shape)")
            // An event that lies behind comes by again: after two rounds of a packed ring, after 65536 entries of a
            // split.
            kicks = rig.shape.isPacked ? .any : .never
        case .any: break
        }
        shown = out.offered.count
    }

    mutating func take() {
        let expected = slow.take()
        if isReal {
            let (found, error) = device.takeSlowly(&chain, rig.map)
            #expect(found == expected && error == nil, "\(rig.shape)")
        }
        guard case .chain(let one) = expected else {
            #expect(expected == .none && shown == 0)
            return
        }
        guard shown > 0 else { Issue.record("a chain that was not shown, \(rig.shape)"); return }
        #expect(one == out.offered[0], "\(rig.shape)")
        shown -= 1
        out.taken.append(out.offered.removeFirst())
    }

    mutating func put() {
        guard !out.taken.isEmpty else { return }
        // In any order: disks answer so.
        let one = out.taken.remove(at: Int.random(in: out.taken.indices, using: &random))
        let room = one.runs.filter(\.isWritable).reduce(0) { $0 + $1.count }
        let written = UInt32(UInt64.random(in: 0...room, using: &random))
        out.put.append((one, written))
        slow.put(one.id, one.entries, written: written)
        guard isReal else { return }
        device.put(ChainTicket(one), written: written)
    }

    mutating func answer() {
        let expected = slow.publish(storing: !isReal)
        if isReal {
            let signal = device.publish()
            #expect(signal == expected, "\(rig.shape)")
            #expect(device.unanswered == slow.unanswered)
        }
        if driverSleeps, out.put.count > reapable {
            #expect(expected, "a driver is left asleep, \(rig.shape)")
            driverSleeps = false
        }
        reapable = out.put.count
    }

    var reapable = 0
    mutating func reap() throws {
        let used = try driver.reap()
        guard reapable > 0 else {
            #expect(used == nil, "\(rig.shape)")
            return
        }
        let (one, written) = out.put.removeFirst()
        reapable -= 1
        #expect(used == UsedChain(ticket: ChainTicket(one), written: written), "\(rig.shape)")
    }

    mutating func armDevice() {
        let expected = slow.look()
        #expect(expected == (shown > 0))
        if isReal {
            let isThere = device.armAndRecheck()
            #expect(isThere == expected, "\(rig.shape)")
            // One that need not sleep may have asked for kicks or not.
            if isThere { kicks = rig.shape.events && !rig.shape.isPacked ? .never : .any }
        } else if !expected {
            slow.arm()
        }
        if !expected { kicks = rig.shape.events ? .once : .always }
    }

    mutating func disarm() {
        driver.disarm()
        if !rig.shape.events || rig.shape.isPacked { driverSleeps = false }
        guard isReal else { return }
        device.disarm()
        if !rig.shape.events || rig.shape.isPacked { kicks = .never }
    }

    mutating func armDriver() {
        let isThere = driver.armAndRecheck()
        #expect(isThere == (reapable > 0), "\(rig.shape)")
        driverSleeps = !isThere
    }

    mutating func run(_ steps: Int) throws {
        for _ in 0..<steps {
            switch Int.random(in: 0..<16, using: &random) {
            case 0...4: offer()
            case 5, 6: publish()
            case 7...9: take()
            case 10, 11: put()
            case 12: answer()
            case 13: try reap()
            case 14: armDevice()
            case 15 where Bool.random(using: &random): disarm()
            default: armDriver()
            }
        }
        // Everything comes back in the end.
        publish()
        while shown > 0 { take() }
        while !out.taken.isEmpty { put() }
        answer()
        while reapable > 0 { try reap() }
        #expect(driver.outstanding == 0 && driver.freeEntries == rig.shape.size && slow.unanswered == 0)
    }
}

extension ChainTicket {
    /// A ticket by its numbers: tests name chains as the slow device does.
    init(_ chain: SlowChain) { self.init(id: UInt16(chain.id), entries: UInt16(chain.entries)) }
}

private let sizes = (split: (0...15).map { 1 << $0 }, packed: [1, 2, 3, 5, 8, 100, 127, 1000, 32767, 32768])

/// Around the wrap of 16 bits, or of rounds.
private func starts(_ size: Int) -> [Int] { size > 1000 ? [0, 65530] : [0, 1, size, 65536 - size - 1, 65530, 65535] }

@Suite struct AgainstSlowModelTests {
    /// `isReal`: our device with the slow one beside it; else the slow one alone.
    private func walk(_ shape: Shape, steps: Int, isReal: Bool) throws {
        let rig = try Rig(shape)
        let random = SplitMix(UInt64(shape.size) << 20 | UInt64(shape.start))
        if shape.isPacked {
            let driver = PackedDriverRing(
                initialising: rig.areas, features: shape.features, tables: rig.driverTables, startingAt: rig.packedStart)
            let device = try PackedDeviceRing(
                attaching: rig.areas, features: shape.features, startingAt: UInt32(rig.packedStart.rawValue))
            var walk = Walk(rig: rig, driver: driver, device: device, isReal: isReal, slow: rig.slowDevice, random: random)
            try walk.run(steps)
        } else {
            let start = UInt16(truncatingIfNeeded: shape.start)
            let driver = SplitDriverRing(
                initialising: rig.areas, features: shape.features, tables: rig.driverTables, startingAt: start)
            let device = try SplitDeviceRing(attaching: rig.areas, features: shape.features, startingAt: start)
            var walk = Walk(rig: rig, driver: driver, device: device, isReal: isReal, slow: rig.slowDevice, random: random)
            if shape.events { walk.kicks = .once }
            try walk.run(steps)
        }
    }

    @Test(arguments: [false, true]) func ourDeviceSeesWhatTheSlowOneSees(isPacked: Bool) throws {
        for shape in Shape.all(split: isPacked ? [] : sizes.split, packed: isPacked ? sizes.packed : [], starts: starts) {
            try walk(shape, steps: shape.size > 1000 ? 300 : 700, isReal: true)
        }
    }

    @Test(arguments: [false, true]) func theSlowDeviceReadsWhatOurDriverWrites(isPacked: Bool) throws {
        for shape in Shape.all(split: isPacked ? [] : sizes.split, packed: isPacked ? sizes.packed : [], starts: starts) {
            try walk(shape, steps: shape.size > 1000 ? 300 : 700, isReal: false)
        }
    }
}
