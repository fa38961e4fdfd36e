// A driver that changes a chain while it is taken. What comes out must be one of the chains that stood there: what was
// held against the limits and what is reported are the same bytes.

import Foundation
import SharedMemory
import Synchronization
import Testing
import TestSupport
@testable import VirtioRing
import VirtioWire

/// A thread that stores one half-word after the other, for ever, until stopped.
private final class Racer: Sendable {
    private let goOn = Atomic<Bool>(true)
    private let ended = DispatchSemaphore(value: 0)

    init(_ region: SharedRegion, _ values: [UInt16], at offset: Int) {
        region.storeRelaxed16(values[0], at: offset)
        Thread { [self] in
            while goOn.load(ordering: .relaxed) { for value in values { region.storeRelaxed16(value, at: offset) } }
            ended.signal()
        }.start()
    }

    func stop() {
        goOn.store(false, ordering: .relaxed)
        _ = ended.wait(timeout: .now() + 10)
    }
}

@Suite(.serialized) struct DoubleFetchTests {
    /// The upper half of a descriptor's length flips between none and more than there is memory; the flags of another
    /// between read and written.
    @Test(.timeLimit(.minutes(2))) func lengthsThatChange() throws {
        let rig = try Rig(Shape(size: 2))
        SplitDescriptor(address: Rig.data, byteCount: 16, flags: []).store(rig.ringRegion, at: 0)
        rig.ringRegion.storeRelaxed16(1, at: rig.areas.driver.offset + 2)
        let racer = Racer(rig.ringRegion, [0, 0x0002, 0x7FFF], at: 10)
        defer { racer.stop() }
        var chain = DescriptorChain()
        var accepted = 0, refused = 0
        for _ in 0..<60_000 {
            var ring = try SplitDeviceRing(attaching: rig.areas, features: rig.shape.features)
            do throws(VirtqueueError) {
                _ = try ring.take(into: &chain, from: rig.map)
                if chain.runs != [GuestRun(address: Rig.data, byteCount: 16)] { Issue.record("\(chain.runs)") }
                accepted += 1
            } catch {
                guard case .outsideMemory(_, let count, _) = error, count == 0x2_0010 || count == 0x7FFF_0010 else {
                    Issue.record("\(error)")
                    return
                }
                refused += 1
            }
        }
        #expect(accepted > 0 && refused > 0, "the racer ran")
    }

    /// A head that flips between one that there is and one that there is not.
    @Test(.timeLimit(.minutes(2))) func headsThatChange() throws {
        let rig = try Rig(Shape(size: 2))
        SplitDescriptor(address: Rig.data, byteCount: 16, flags: []).store(rig.ringRegion, at: 0)
        rig.ringRegion.storeRelaxed16(1, at: rig.areas.driver.offset + 2)
        let racer = Racer(rig.ringRegion, [0, 0xFFFF, 2], at: rig.areas.driver.offset + 4)
        defer { racer.stop() }
        var chain = DescriptorChain()
        var accepted = 0, refused = 0
        for _ in 0..<60_000 {
            var ring = try SplitDeviceRing(attaching: rig.areas, features: rig.shape.features)
            if (try? ring.take(into: &chain, from: rig.map)) == .chain {
                if chain.ticket.id != 0 { Issue.record("\(chain)") }
                accepted += 1
            } else {
                refused += 1
            }
        }
        #expect(accepted > 0 && refused > 0, "the racer ran")
    }

    /// What was taken is what is used, though ring and table change in between: nothing refers back to them.
    @Test(arguments: [false, true], [false, true]) func aChangeAfterTheTakingChangesNothing(isPacked: Bool, tables: Bool) throws {
        let rig = try Rig(Shape(isPacked: isPacked, size: 8, tables: tables))
        var offered = DescriptorChain(), chain = DescriptorChain()
        offered.appendReadable(GuestRun(address: Rig.data, byteCount: 16))
        offered.appendWritable(GuestRun(address: Rig.data + 0xFFF0, byteCount: 32))
        func spoil() {
            rig.ringRegion.fill(0, count: 128, with: 0xFF)
            rig.driverTables.area.region.fill(0, count: 4096, with: 0xFF)
        }
        if isPacked {
            var driver = PackedDriverRing(initialising: rig.areas, features: rig.shape.features, tables: rig.driverTables)
            var device = try PackedDeviceRing(attaching: rig.areas, features: rig.shape.features)
            _ = driver.offer(offered)
            _ = driver.publish()
            let found = try device.take(into: &chain, from: rig.map)
            spoil()
            device.put(chain.ticket, written: 5)
            _ = device.publish()
            let used = try driver.reap()
            #expect(found == .chain && used?.written == 5)
        } else {
            var driver = SplitDriverRing(initialising: rig.areas, features: rig.shape.features, tables: rig.driverTables)
            var device = try SplitDeviceRing(attaching: rig.areas, features: rig.shape.features)
            _ = driver.offer(offered)
            _ = driver.publish()
            let found = try device.take(into: &chain, from: rig.map)
            spoil()
            device.put(chain.ticket, written: 5)
            _ = device.publish()
            let used = try driver.reap()
            #expect(found == .chain && used?.written == 5)
        }
        #expect(chain.runs == offered.runs && chain.readableCount == 1)
    }
}
