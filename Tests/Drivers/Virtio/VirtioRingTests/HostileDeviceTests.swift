// Devices that break the rules, against our driver's ends.

import SharedMemory
import Testing
import TestSupport
@testable import VirtioRing
import VirtioWire

private func fault(_ ring: inout some DriverRing & ~Copyable) -> VirtqueueError? {
    do throws(VirtqueueError) { _ = try ring.reap() } catch { return error }
    return nil
}

@Suite struct HostileDeviceTests {
    private let chain: DescriptorChain = {
        var chain = DescriptorChain()
        chain.appendReadable(GuestRun(address: Rig.data, byteCount: 16))
        chain.appendWritable(GuestRun(address: Rig.data + 4096, byteCount: 100))
        return chain
    }()

    private func use(_ rig: Rig, _ id: UInt32, _ written: UInt32, index: UInt16, slot: Int = 0) {
        UsedElement(id: id, written: written).store(rig.ringRegion, at: rig.areas.device.offset + 4 + 8 * slot)
        rig.ringRegion.storeReleasing16(index, at: rig.areas.device.offset + 2)
    }

    @Test(arguments: [0, 0xFFFF] as [UInt16]) func splitRings(start: UInt16) throws {
        let rig = try Rig(Shape(size: 8, events: true))
        let slot = Int(start % 8)
        let lies: [(UInt32, UInt32, UInt16, VirtqueueError)] = [
            (0, 0, 2, .tooManyUsed(used: start &+ 2, taken: start, limit: 1)),
            (0, 0, 0xFFFF, .tooManyUsed(used: start &- 1, taken: start, limit: 1)),
            (8, 0, 1, .notInFlight(8)), (.max, 0, 1, .notInFlight(.max)), (1, 0, 1, .notInFlight(1)),
            // Offered after the last publication.
            (2, 0, 1, .notInFlight(2)), (0, 101, 1, .writtenTooMuch(101, room: 100)),
        ]
        for (id, written, advance, wanted) in lies {
            var ring = SplitDriverRing(initialising: rig.areas, features: rig.shape.features, startingAt: start)
            _ = ring.offer(chain)
            _ = ring.publish()
            _ = ring.offer(chain)
            use(rig, id, written, index: start &+ advance, slot: slot)
            #expect(fault(&ring) == wanted)
            use(rig, 0, 0, index: start &+ 1, slot: slot)
            let arms = ring.armAndRecheck()
            #expect(fault(&ring) == wanted && !arms && !wanted.description.isEmpty)
        }
        // The same chain used twice.
        var ring = SplitDriverRing(initialising: rig.areas, features: rig.shape.features, startingAt: start)
        _ = ring.offer(chain)
        _ = ring.offer(chain)
        _ = ring.publish()
        use(rig, 0, 100, index: start &+ 1, slot: slot)
        let used = try ring.reap()
        #expect(used == UsedChain(ticket: ChainTicket(id: 0, entries: 2), written: 100))
        use(rig, 0, 0, index: start &+ 2, slot: (slot + 1) % 8)
        #expect(fault(&ring) == .notInFlight(0))
    }

    @Test func packedRings() throws {
        let rig = try Rig(Shape(isPacked: true, size: 8, events: true))
        func use(_ slot: Int, _ id: UInt16, _ written: UInt32, _ flags: DescriptorFlags = .write) {
            PackedDescriptor.storeAnswer(id: id, written: written, rig.ringRegion, at: 16 * slot)
            PackedDescriptor.storeFlags(flags.union([.available, .used]), rig.ringRegion, at: 16 * slot)
        }
        let lies: [(UInt16, UInt32, VirtqueueError)] = [
            (8, 0, .notInFlight(8)), (.max, 0, .notInFlight(0xFFFF)), (5, 0, .notInFlight(5)),
            (1, 0, .notInFlight(1)), (0, 101, .writtenTooMuch(101, room: 100)),
        ]
        for (id, written, wanted) in lies {
            var ring = PackedDriverRing(initialising: rig.areas, features: rig.shape.features)
            _ = ring.offer(chain)
            _ = ring.publish()
            _ = ring.offer(chain)
            use(0, id, written)
            #expect(fault(&ring) == wanted)
            use(0, 0, 0)
            let arms = ring.armAndRecheck()
            #expect(fault(&ring) == wanted && !arms)
        }
        // QEMU's devices never set "write"; DPDK's leave lengths that mean nothing where it is not set.
        for (length, wanted) in [(100, 100), (101, 0)] as [(UInt32, UInt32)] {
            var ring = PackedDriverRing(initialising: rig.areas, features: rig.shape.features)
            _ = ring.offer(chain)
            _ = ring.publish()
            use(0, 0, length, [])
            let used = try ring.reap()
            #expect(used == UsedChain(ticket: ChainTicket(id: 0, entries: 2), written: wanted))
        }
        // Nothing is out: a ring full of "used" says nothing.
        var idle = PackedDriverRing(initialising: rig.areas, features: rig.shape.features)
        for slot in 0..<8 { use(slot, 0, 0) }
        let used = try idle.reap(), arms = idle.armAndRecheck()
        #expect(used == nil && !arms)
    }
}
