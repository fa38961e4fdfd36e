// Who is woken when: our arithmetic against Linux's, over every position, and rings without events.

import CVirtio
import SharedMemory
import Testing
import TestSupport
@testable import VirtioRing
import VirtioWire

@Suite struct EventTests {
    /// Every event for indices around the wrap, and for the largest batches.
    @Test func splitArithmeticIsLinuxs() {
        for new in [0, 1, 2, 255, 0x7FFF, 0x8000, 0x8001, 0xFFFE, 0xFFFF] as [UInt16] {
            for fresh in [0, 1, 2, 7, 0x7FFF, 0x8000] as [UInt16] {
                var differences = 0
                for event in 0...UInt16.max {
                    let ours = VirtqueueIndex(new).isPast(VirtqueueIndex(event), within: fresh)
                    if ours != cvirtio_need_event(event, new, new &- fresh) { differences += 1 }
                }
                #expect(differences == 0, "\(new) after \(fresh)")
            }
        }
    }

    /// Every place of small rings and the edges of large ones, with every event in the ring and many outside.
    @Test func packedArithmeticIsLinuxs() {
        for size in [1, 2, 3, 7, 8, 32767, 32768] as [UInt16] {
            let all = Array(0...UInt16.max)
            let events = all.filter {
                size > 8 ? $0 % 37 == 0 || $0 & 0x7FFF > 0x7FF0 : $0 & 0x7FFF < size + 2 || $0 & 0x7FF == 0x7FF
            }
            let places = size <= 8 ? Array(0..<size) : [0, 1, size / 2, size - 2, size - 1]
            for offset in places {
                for wrap in [false, true] {
                    let position = PackedPosition(rawValue: offset | (wrap ? 0x8000 : 0))
                    for added in Set([1, 2, size / 2, size - 1, size]) where added >= 1 && added <= size {
                        var differences = 0
                        for event in events {
                            let ours = position.isPast(PackedPosition(rawValue: event), within: added, size: size)
                            if ours != cvirtio_packed_need_event(event, offset, wrap, added, size) { differences += 1 }
                        }
                        #expect(differences == 0, "size \(size), at \(position), \(added) added")
                    }
                }
            }
        }
    }

    @Test func packedPositionsTurn() {
        for size in [1, 2, 3, 100, 32767, 32768] as [UInt16] {
            var position = PackedPosition.start
            var count = 0
            for step in [1, 1, size, size, size - 1, 1, 1] as [UInt16] {
                position.advance(by: step, size: size)
                count += Int(step)
                #expect(Int(position.offset) == count % Int(size) && position.wrap == (count / Int(size) % 2 == 0))
            }
        }
    }

    /// Without events: the flags of either side, and nothing else.
    @Test(arguments: [false, true]) func flagsAlone(isPacked: Bool) throws {
        let rig = try Rig(Shape(isPacked: isPacked, size: 8))
        if isPacked {
            try flags(
                rig, PackedDriverRing(initialising: rig.areas, features: rig.shape.features),
                try PackedDeviceRing(attaching: rig.areas, features: rig.shape.features))
        } else {
            try flags(
                rig, SplitDriverRing(initialising: rig.areas, features: rig.shape.features),
                try SplitDeviceRing(attaching: rig.areas, features: rig.shape.features))
        }
    }

    private func flags<Driver: DriverRing & ~Copyable, Device: DeviceRing & ~Copyable>(
        _ rig: Rig, _ first: consuming Driver, _ second: consuming Device
    ) throws {
        var driver = first, device = second
        var chain = DescriptorChain(), taken = DescriptorChain()
        chain.appendWritable(GuestRun(address: Rig.data, byteCount: 64))
        for round in 0..<40 {
            let (wantsKick, wantsSignal) = (round & 1 == 0, round & 2 == 0)
            if wantsKick { _ = device.armAndRecheck() } else { device.disarm() }
            if wantsSignal { _ = driver.armAndRecheck() } else { driver.disarm() }
            _ = driver.offer(chain)
            let kick = driver.publish()
            let found = try device.take(into: &taken, from: rig.map)
            device.put(taken.ticket, written: 64)
            let signal = device.publish(), nothing = device.publish()
            let used = try driver.reap()
            #expect(kick == wantsKick && signal == wantsSignal && !nothing && found == .chain && used?.written == 64)
        }
        let counters = (driver.counters, device.counters)
        #expect(counters.0.notificationsSent == 20 && counters.0.notificationsSuppressed == 20)
        #expect(counters.1.notificationsSent == 20 && counters.1.notificationsSuppressed == 20)
    }

    /// An event word of a packed ring that has no meaning wakes.
    @Test func reservedEventsWake() throws {
        let rig = try Rig(Shape(isPacked: true, size: 8, events: true))
        var driver = PackedDriverRing(initialising: rig.areas, features: rig.shape.features)
        var device = try PackedDeviceRing(attaching: rig.areas, features: rig.shape.features)
        var chain = DescriptorChain()
        chain.appendWritable(GuestRun(address: Rig.data, byteCount: 64))
        for (flags, wanted) in [(0, true), (1, false), (3, true), (0xFFFF, true)] as [(UInt16, Bool)] {
            _ = driver.offer(chain)
            _ = driver.publish()
            _ = try device.take(into: &chain, from: rig.map)
            PackedEvent(position: 0x1234, flags: flags).store(rig.ringRegion, at: rig.areas.driver.offset)
            device.put(chain.ticket, written: 0)
            let signal = device.publish()
            #expect(signal == wanted)
            _ = try driver.reap()
        }
    }
}
