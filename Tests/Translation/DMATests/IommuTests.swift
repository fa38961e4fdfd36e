// IO page tables, the IOTLB's two ways of forgetting, faults and dirty pages (attacks.md PM1, PM3, PM4, PM21, PM22).

import FrameMaps
import Testing

@testable import DMA
import TestSupport

@Suite(.timeLimit(.minutes(1)))
struct IommuTests {
    private func frame(_ domain: IommuDomain, _ iova: Iova, writes: Bool = false) -> UInt64? {
        domain.translate(iova, writes: writes)?.rawValue
    }

    @Test func strictForgetsAtOnce() throws {
        let domain = try IommuDomain(device: "d", mode: .strict)
        let iova = try domain.reserve(pages: 4)
        try domain.link(iova, to: bus(100), pages: 4, .readWrite)
        #expect(frame(domain, iova) == 100 && frame(domain, iova.advanced(by: 3 * 4096)!) == 103)
        try domain.release(iova, pages: 4)
        #expect(frame(domain, iova) == nil && domain.faults.count == 1)
        #expect(domain.faults.recent == [IOFault(device: "d", iova: iova, cause: .notMapped)])
    }

    /// Batches of 0, 1, limit - 1, limit and limit + 1.
    @Test(arguments: [0, 1, 7, 8, 9])
    func deferredForgetsInBatches(_ count: Int) throws {
        let domain = try IommuDomain(device: "d", mode: .deferred, batchLimit: 8)
        let free = domain.freePages
        var iovas: [Iova] = []
        for index in 0..<count {
            let iova = try domain.reserve(pages: 1)
            try domain.link(iova, to: bus(UInt64(100 + index)), pages: 1, .readWrite)
            #expect(frame(domain, iova) == UInt64(100 + index))
            try domain.release(iova, pages: 1)
            iovas.append(iova)
        }
        let waiting = count % 8
        #expect(domain.staleMappings.count == waiting)
        #expect(domain.freePages == free - waiting)
        // The window: those that wait are still reached by what the IOTLB remembers; the others fault.
        for iova in iovas {
            #expect((frame(domain, iova) != nil) == domain.staleMappings.contains { $0.iova == iova })
            #expect(domain.lookup(iova) == nil)
        }
        // Nobody gets an address before its window is closed.
        let fresh = try domain.reserve(pages: 1)
        #expect(!domain.staleMappings.contains { $0.iova == fresh })
        domain.flush()
        for iova in iovas { #expect(frame(domain, iova) == nil) }
        try domain.free(fresh, pages: 1)
        #expect(domain.freePages == free && domain.tableByteCount == 0)
    }

    @Test func largePagesAndPermissions() throws {
        let domain = try IommuDomain(device: "d", mode: .strict)
        let pages = 1 << 18
        let iova = Iova(rawValue: 1 << 30)
        try domain.link(iova, to: bus(1 << 18), pages: pages, .read)
        #expect(domain.tableByteCount == 0)
        #expect(frame(domain, iova.advanced(by: 12345 << 12)!) == (1 << 18) + 12345)
        #expect(frame(domain, iova, writes: true) == nil)
        #expect(domain.faults.recent.last?.cause == .writeDenied)
        try domain.link(Iova(rawValue: 1 << 20), to: bus(5), pages: 1, .write)
        #expect(frame(domain, Iova(rawValue: 1 << 20)) == nil)
        #expect(domain.faults.recent.last?.cause == .readDenied)
        // A page out of the middle: what is around it stays.
        try domain.unlink(iova.advanced(by: 700 << 12)!, pages: 1)
        #expect(domain.lookup(iova.advanced(by: 699 << 12)!)?.frame == bus((1 << 18) + 699))
        #expect(domain.lookup(iova.advanced(by: 700 << 12)!) == nil)
        #expect(domain.lookup(iova.advanced(by: 701 << 12)!)?.frame == bus((1 << 18) + 701))
    }

    @Test func dirtyPages() throws {
        let domain = try IommuDomain(device: "d", mode: .strict)
        domain.tracksDirty = true
        let iova = try domain.reserve(pages: 4)
        try domain.link(iova, to: bus(8), pages: 4, .readWrite)
        for _ in 0..<2 {
            _ = frame(domain, iova)
            _ = frame(domain, iova.advanced(by: 4096)!, writes: true)
            _ = frame(domain, iova.advanced(by: 3 * 4096)!, writes: true)
            #expect(try domain.takeDirty(iova, pages: 4) == [false, true, false, true])
            #expect(try domain.takeDirty(iova, pages: 4) == [false, false, false, false])
        }
    }

    @Test func exhaustion() throws {
        let domain = try IommuDomain(device: "d", mode: .deferred, mask: (512 << 12) - 1)
        #expect(domain.freePages == 256)
        let all = try domain.reserve(pages: 256)
        #expect(throws: DMAError.noIova(pages: 1, largest: 0)) { _ = try domain.reserve(pages: 1) }
        try domain.release(all, pages: 256)
        // What only waits for its batch is had when it is needed.
        #expect(try domain.reserve(pages: 256) == all)
        #expect(throws: DMAError.self) { try domain.link(Iova(rawValue: 512 << 12), to: bus(1), pages: 1, .read) }
    }
}
