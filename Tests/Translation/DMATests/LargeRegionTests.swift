// Regions of gigabytes: attaching and detaching one costs its runs, under every model, and every page of it is where it
// was said to be.

import FrameMaps
import SharedMemory
import TestSupport
import Testing

@testable import DMA

@Suite(.timeLimit(.minutes(2)))
struct LargeRegionTests {
    /// Addresses without memory behind them, from a multiple of 1 GiB on, as pages of a guest.
    private func region(_ byteCount: Int) throws -> SharedRegion {
        let base = try #require(unsafe UnsafeMutableRawPointer(bitPattern: 1 << 40))
        return unsafe SharedRegion(adopting: base, byteCount: byteCount, writable: true) { _, _ in }
    }

    /// What stands behind a page, by the device's own way: pfn to frame to page of this process.
    private func expect(_ device: DMADevice, _ page: UInt64, of first: Pfn) throws {
        let frames = try #require(device.frames)
        let pfn = try #require(first.advanced(by: page))
        let frame = try #require(frames.map.frame(of: pfn), "page \(page)")
        let memory = try #require(unsafe frames.memory(frame, writes: true), "page \(page)")
        #expect(UInt64(UInt(bitPattern: memory)) == 1 << 40 + page << 12, "page \(page)")
        #expect(frames.map.pfn(of: frame)?.pfn == pfn, "page \(page)")
    }

    @Test("64 GiB cost their runs", arguments: MemoryModel.allCases, [1, 77] as [UInt64])
    func wholeSpace(_ model: MemoryModel, _ seed: UInt64) throws {
        let device = try DMADevice(name: "d", options: DMAOptions(model: model, iommu: .strict, seed: seed))
        let frames = try #require(device.frames)
        let all = try region(1 << 36)
        for _ in 0..<2 {
            let first = try #require(device.attach(all))
            // Page by page these were 128 MiB in each of three directions.
            #expect(frames.map.tableByteCount <= 1 << 20, "\(frames.map.tableByteCount)")
            #expect(frames.pages.tableCount * 4096 <= 1 << 19, "\(frames.pages.tableCount)")
            #expect(frames.map.foreignPageCount == 1 << 24)
            for page in [0, 1, 511, 512, 513, 1 << 18 - 1, 1 << 18, 0x12_3456, 1 << 24 - 1] as [UInt64] {
                try expect(device, page, of: first)
            }
            // 2 MiB are in a row, and no more where frames are scattered.
            let row = frames.map.translate(first, pages: 1 << 24)?.pageCount
            #expect(model == .p2m ? row == 512 : row == 1 << 24, "\(String(describing: row))")
            device.detach(all)
            #expect(frames.map.tableByteCount == 0 && frames.pages.tableCount == 0 && frames.map.foreignPageCount == 0)
        }
    }

    /// What is no whole number of blocks, large and small regions beside each other: no frame twice.
    @Test("large and small regions", arguments: [MemoryModel.p2m, .identity])
    func beside(_ model: MemoryModel) throws {
        let device = try DMADevice(name: "d", options: DMAOptions(model: model))
        let frames = try #require(device.frames)
        var taken = Set<UInt64>()
        var regions: [SharedRegion] = []
        for pages in [3, 1 << 18 + 700, 64, 1000, 1] {
            let region = try region(pages << 12)
            let first = try #require(device.attach(region))
            regions.append(region)
            for page in [0, 1, 2, 511, 512, 262_143, 262_144, 262_844, pages - 1] where page < pages {
                try expect(device, UInt64(page), of: first)
            }
            for page in 0..<UInt64(pages) {
                let pfn = try #require(first.advanced(by: page))
                let frame = try #require(frames.map.frame(of: pfn))
                #expect(taken.insert(frame.rawValue).inserted)
            }
        }
        for region in regions { device.detach(region) }
        #expect(frames.map.foreignPageCount == 0 && frames.map.audit().foreign == 0)
    }

    /// A small region's pages have no neighbours on the bus.
    @Test(arguments: 0...40 as ClosedRange<UInt64>)
    func scattered(_ seed: UInt64) throws {
        let device = try DMADevice(name: "d", options: DMAOptions(model: .p2m, seed: seed))
        let pages = try region(4096 << 12)
        let first = try #require(device.attach(pages))
        let frames = try #require(device.frames)
        let numbers = (0..<4096).compactMap { first.advanced(by: $0).flatMap { frames.map.frame(of: $0)?.rawValue } }
        #expect(Set(numbers).count == 4096)
        #expect(!zip(numbers, numbers.dropFirst()).contains { $0 &- $1 == 1 || $1 &- $0 == 1 })
    }

    /// Machine frames that a hypervisor names, in runs, and some of them by two regions.
    @Test func sharedFrames() throws {
        let device = try DMADevice(name: "d", options: DMAOptions(model: .p2m))
        let frames = try #require(device.frames)
        let pages = 1 << 18 + 512, start: UInt64 = 1 << 21
        let machine = (0..<UInt64(pages)).map { start + $0 }
        let large = try region(pages << 12)
        let memory = try SharedRegion(anonymous: 2 << 12)
        // For reading only, and so never in the way of the large one's pages.
        let sealed = unsafe SharedRegion(adopting: memory.unsafeBase, byteCount: 2 << 12, writable: false) { _, _ in }
        for order in [[large, sealed], [sealed, large]] {
            var firsts: [Pfn] = []
            for region in order {
                let first = device.attach(region, machine: region === large ? machine : [start + 700, start + 9])
                firsts.append(try #require(first))
            }
            let first = firsts[order[0] === large ? 0 : 1]
            for page in [0, 8, 9, 10, 511, 699, 700, 701, 1 << 18, UInt64(pages) - 1] as [UInt64] {
                let pfn = try #require(first.advanced(by: page))
                let frame = try #require(frames.map.frame(of: pfn))
                #expect(frame == bus(start + page))
                #expect(UInt64(UInt(bitPattern: unsafe frames.memory(frame, writes: true))) == 1 << 40 + page << 12, "\(page)")
            }
            #expect(frames.map.foreignPageCount == UInt64(pages) + 2)
            device.detach(order[0])
            // The other one's are all there.
            let left = order[1] === large ? pages : 2
            #expect(frames.map.foreignPageCount == UInt64(left))
            #expect((unsafe frames.memory(bus(start + 700), writes: false)) != nil)
            #expect((unsafe frames.memory(bus(start + 701), writes: false) == nil) == (left == 2))
            #expect(frames.map.pfn(of: bus(start + 9))?.pfn == firsts[1].advanced(by: left == 2 ? 1 : 9))
            device.detach(order[1])
            #expect(frames.map.tableByteCount == 0 && frames.pages.tableCount == 0 && frames.shared.isEmpty)
        }
    }
}
