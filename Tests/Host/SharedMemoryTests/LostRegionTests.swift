// Memory whose owner makes it shorter under our hands.

import Glibc
import LinuxSystem
import SharedMemory
import Testing

@Suite("memory that becomes shorter") struct LostRegionTests {
    private let page = SharedRegion.pageSize

    private func file(pages: Int) throws -> Descriptor {
        let path = try FileSystem.makeTemporaryDirectory("/tmp/cwlost.")
        defer {
            FileSystem.remove("\(path)/file")
            FileSystem.removeDirectory(path)
        }
        let file = try Descriptor.open("\(path)/file", O_RDWR | O_CREAT)
        #expect(ftruncate(file.rawValue, off_t(pages * page)) == 0)
        return file
    }

    @Test("a region that survives faults is zeroes once its file has become shorter, and says so; others are as they were")
    func lost() throws {
        let (file, other) = (try file(pages: 4), try file(pages: 4))
        let region = try SharedRegion(mapping: file, byteCount: 4 * page, writable: true, survivesFaults: true)
        let beside = try SharedRegion(mapping: other, byteCount: 4 * page, writable: true, survivesFaults: true)
        for each in [region, beside] { each.store(4711 as UInt64, at: 3 * page) }
        #expect(ftruncate(file.rawValue, 0) == 0)
        #expect(!region.isLost)
        #expect(region.load(3 * page) as UInt64 == 0)
        #expect(region.isLost && !beside.isLost)
        #expect(beside.load(3 * page) as UInt64 == 4711)
        // All of it is ours now, to be written, too.
        for place in 0..<4 { region.store(UInt64(place), at: place * page) }
        #expect(region.load(2 * page) as UInt64 == 2)
    }

    @Test("each of many regions is watched while it is mapped, and no longer")
    func many() throws {
        for _ in 0..<3 {
            var regions: [(SharedRegion, Descriptor)] = []
            for _ in 0..<300 {
                let file = try file(pages: 1)
                regions.append((try SharedRegion(mapping: file, byteCount: page, writable: true, survivesFaults: true), file))
            }
            for (index, (region, file)) in regions.enumerated() where index % 3 == 0 {
                #expect(ftruncate(file.rawValue, 0) == 0)
                region.store(1 as UInt32, at: 0)
            }
            for (index, (region, _)) in regions.enumerated() { #expect(region.isLost == (index % 3 == 0)) }
        }
    }

    @Test("several threads that reach into it at once all go on")
    func threads() throws {
        for _ in 0..<20 {
            let file = try file(pages: 64)
            let region = try SharedRegion(mapping: file, byteCount: 64 * page, writable: true, survivesFaults: true)
            let threads = try (0..<4).map { number in
                try WorkerThread(name: "reach\(number)") {
                    for round in 0..<2000 { region.store(UInt32(round), at: (round * 7 + number) % 64 * 4096) }
                }
            }
            #expect(ftruncate(file.rawValue, 0) == 0)
            for thread in threads { thread.join() }
            region.store(1 as UInt32, at: 0)
            #expect(region.isLost)
        }
    }
}
