// Regions by machine frames: what the hypervisor said, and nothing else.

@testable import DMA
import LinuxSystem
import SharedMemory
import Testing
import TestSupport

@Suite("Regions by machine frames") struct MachineFrameTests {
    private let lines = LineCollector()

    private func source(_ frames: [UInt64] = [0x6b5d9, 0x33]) -> MachineFrameSource {
        MachineFrameSource(name: "disk", make: { count throws(Errno) in (try SharedRegion(anonymous: count), frames) }) { [lines] in
            lines.add($0)
        }
    }

    @Test func ownMemoryIsWhereItWasMade() throws {
        let source = source()
        let region = try source.makeMemory(8000)
        #expect(region.byteCount == 8192)
        #expect(source.place(region) == .pages([DeviceAddress(rawValue: 0x6b5d_9000), DeviceAddress(rawValue: 0x3_3000)]))
        #expect(source.place(region) != nil && source.count == 1)
        source.remove(region)
        #expect(source.count == 1)
        source.remove(region)
        #expect(source.count == 0)
    }

    @Test func aPeersPageIsWhereTheHypervisorSaid_andItsOwnersWordIsAskedOnce() throws {
        let source = source()
        let region = try SharedRegion(anonymous: 4096)
        var asked = 0
        for _ in 0..<2 {
            let place = source.place(region) {
                asked += 1
                return [0x77]
            }
            #expect(place == .pages([DeviceAddress(rawValue: 0x7_7000)]))
        }
        #expect(asked == 1)
    }

    @Test(arguments: [nil, [], [1, 2], [0], [0xFF_FFFF_FFFF], [.max]] as [[UInt64]?])
    func whatNobodySaidHasNoPlace(_ frames: [UInt64]?) throws {
        let source = source()
        let region = try SharedRegion(anonymous: 4096)
        #expect(source.place(region) { frames } == nil)
        #expect(source.place(region) { frames } == nil)
        #expect(source.count == 0 && lines.all.count == 1)
    }

    @Test func anotherRegionAtTheSamePlaceOfTheHeapIsAnother() throws {
        let source = source([0x50])
        // Regions that are gone leave their identity to others.
        for _ in 0..<200 {
            _ = try source.makeMemory(4096)
            let stranger = try SharedRegion(anonymous: 4096)
            #expect(source.place(stranger) { nil } == nil)
        }
    }
}
