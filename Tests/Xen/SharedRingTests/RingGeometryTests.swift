// Slots of rings of 1 to 32 pages, held against Xen's own macro; and the index's arithmetic.

@testable import BlockProtocol
import CRingMacros
import SharedMemory
@testable import SharedRing
import Testing

@Suite struct RingGeometryTests {
    @Test func slotsAreAsManyAsXensMacroSays() throws {
        for pages in 1...32 {
            let region = try SharedRegion(anonymous: pages * 4096)
            var ring = cring_front()
            unsafe cring_front_attach(&ring, region.unsafeBase, UInt(region.byteCount), 0)
            let geometry = RingGeometry(byteCount: region.byteCount, slotSize: BlockABI.native.layout.slotSize)
            #expect(geometry.slotCount == ring.nr_ents)
        }
        for (order, slots) in [32, 64, 128, 256, 512, 1024].enumerated() {
            for abi in BlockABI.allCases {
                let geometry = RingGeometry(byteCount: 4096 << order, slotSize: abi.layout.slotSize)
                #expect(geometry.slotCount == UInt32(slots))
                #expect(geometry.offset(RingIndex(.max)) + abi.layout.slotSize <= 4096 << order)
                #expect(geometry.offset(RingIndex(UInt32(slots))) == 64)
            }
        }
    }

    @Test func indicesHaveADistanceAndWrap() {
        var index = RingIndex(.max - 1)
        let start = index
        for distance in UInt32(0)..<5 {
            #expect(index - start == distance && start.advanced(by: distance) == index)
            index.advance()
        }
        #expect(index.rawValue == 3)
        #expect(start - index == 0 &- 5, "what is behind shows as nearly 2^32")
    }
}
