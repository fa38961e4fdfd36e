// What the reference pages show (FrameMaps.docc, DMA.docc): it compiles, and does what they say.

import DMA
import FrameMaps
import SharedMemory
import TestSupport
import Testing

struct DocumentedUseTests {
    @Test func aFrameMap() throws {
        let map = try FrameMap(owner: 3, model: .p2m, pfnLimit: 1 << 20, frameLimit: 1 << 24)
        if let range = FrameRange(Pfn(rawValue: 0x100), count: 16) { try map.map(range, to: BusFrame(rawValue: 0x2a000)) }
        let found = map.translate(Pfn(rawValue: 0x104), pages: 16)
        let back = map.pfn(of: BusFrame(rawValue: 0x2a004))

        #expect(found?.frame == BusFrame(rawValue: 0x2a004) && found?.permissions == .readWrite)
        #expect(found?.pageCount == 12)
        #expect(back?.pfn == Pfn(rawValue: 0x104) && back.map { map.isCurrent($0.generation) } == true)
    }

    @Test func aTransfer() throws {
        let limits = DMAConstraints(mask: 0xFFFF_FFFF, boundaryMask: 0xFFFF)
        let device = try DMADevice(name: "nic0", options: DMAOptions(model: .p2m, constraints: limits, bouncePool: 1 << 20))
        let memory = try SharedRegion(anonymous: 2 * 4096)
        guard let page = device.attach(memory) else { return }
        let mapping = try device.map(PagePiece(pfn: page, offset: 0, byteCount: 1500), ToDevice.self)

        #expect(mapping.segments.map(\.byteCount) == [1500] && mapping.bounced.map(\.reason) == [.mask])
        try mapping.unmap()
        #expect(device.liveMappings == 0)
    }

    @Test func theFirstProgramSaysWhatItDoes() throws {
        let run = try BuiltProgram("first-translation").run()
        #expect(
            run.output == """
                0x104123 is in frame 0x2a004, which goes on for 12 pages
                frame 0x2a004 is pfn 0x104
                5 scattered pages behind the IOMMU: 1 segment of 20480 bytes

                """, "\(run)")
    }
}
