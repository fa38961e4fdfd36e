import Glibc
import LinuxSystem
import SharedMemory
import Testing
import VirtioRing

@testable import VhostUser

@Suite("vhost-user: the guest's memory") struct MemoryTests {
    private func region(_ guest: UInt64, _ count: UInt64, _ user: UInt64, _ offset: UInt64 = 0) -> VhostRegion {
        VhostRegion(guestAddress: guest, byteCount: count, userAddress: user, fileOffset: offset)
    }

    @Test("guest and user addresses are two names, in two tables")
    func names() throws {
        let file = try memory()
        var table = VhostMemory()
        try table.add(region(0x10_0000, 0x4000, 0x7F00_0000_0000, 0x1000), file)
        try table.add(region(0, 0x1000, 0x7F00_0000_8000, 0), file)
        #expect(table.guestMap.extents.map(\.address) == [0, 0x10_0000])
        #expect(table.userMap.extents.map(\.address) == [0x7F00_0000_0000, 0x7F00_0000_8000])
        let byGuest = try #require(place(table.guestMap, 0x10_0010, 16))
        let byUser = try #require(place(table.userMap, 0x7F00_0000_0010, 16))
        #expect(byGuest.offset == 0x1010)
        #expect(byUser.offset == 0x1010)
        #expect(byGuest.region === byUser.region)
        #expect(place(table.guestMap, 0x7F00_0000_0010, 16) == nil)
        #expect(place(table.userMap, 0x10_0010, 16) == nil)
    }

    private func place(_ map: GuestMap, _ address: UInt64, _ count: UInt32) -> (region: SharedRegion, offset: Int)? {
        guard case .here(let region, let offset, count) = map.piece(GuestRun(address: address, byteCount: count), forWriting: true)
        else { return nil }
        return (region, offset)
    }

    @Test("a region that is empty, wraps, overlaps or goes beyond its file is refused, and nothing changes")
    func refused() throws {
        let file = try memory(pages: 4)
        var table = VhostMemory()
        try table.add(region(0x4000, 0x2000, 0x4000), file)
        let live = SharedRegion.liveCount
        let bad = [
            region(0, 0, 0x10000), region(.max - 0xFFF, 0x2000, 0x10000), region(0x10000, 0x1000, .max),
            region(0x5FFF, 0x1000, 0x10000), region(0x3000, 0x1001, 0x10000), region(0x10000, 0x1000, 0x5000),
            region(0x10000, 0x1000, 0x10000, 0x4000), region(0x10000, 0x1000, 0x10000, .max), region(0, .max, 0),
            region(0x10000, 0x4001, 0x10000),
        ]
        for region in bad { #expect(throws: VhostUserError.self, "\(region)") { try table.add(region, file) } }
        let pipe = try Descriptor.pipe()
        #expect(throws: VhostUserError.mayShrink(guest: 0x10000)) {
            try table.add(region(0x10000, 0x1000, 0x10000), pipe.reader)
        }
        #expect(table.entries.count == 1)
        #expect(SharedRegion.liveCount == live)
    }

    @Test("a region that is added once more for each pair of rings is one, and goes when it is removed as often")
    func addedAgain() throws {
        let file = try memory(pages: 4)
        var table = VhostMemory()
        let one = region(0x4000, 0x2000, 0x4000)
        for _ in 0..<3 { try table.add(one, try file.duplicate()) }
        #expect(table.entries.count == 1)
        for left in [1, 1, 0] {
            try table.remove(one)
            #expect(table.entries.count == left)
        }
        #expect(throws: VhostUserError.noSuchRegion(guest: 0x4000)) { try table.remove(one) }
        // Not without end.
        #expect(throws: VhostUserError.self) { for _ in 0..<1000 { try table.add(one, file) } }
    }

    @Test("thirty-two regions and no more; what is removed is unmapped when nobody holds the table")
    func manyRegions() throws {
        let file = try memory(pages: 1)
        let live = SharedRegion.liveCount
        var table = VhostMemory()
        for index in 0..<UInt64(VhostLimits.regions) {
            try table.add(region(index << 20, 0x1000, index << 24), file)
        }
        #expect(throws: VhostUserError.tooManyRegions) { try table.add(region(1 << 40, 0x1000, 1 << 40), file) }
        let held = table
        for entry in held.entries { try table.remove(entry.region) }
        #expect(table.entries.isEmpty)
        #expect(SharedRegion.liveCount == live + VhostLimits.regions)
        #expect(throws: VhostUserError.noSuchRegion(guest: 0)) { try table.remove(region(0, 0x1000, 0)) }
        withExtendedLifetime(held) {}
        _ = consume held
        #expect(SharedRegion.liveCount == live)
    }

    @Test("memory that its owner could make shorter is refused, and so is a file that is larger than any window")
    func unsealed() throws {
        var table = VhostMemory()
        // O_TMPFILE, which is not importable.
        let scratch = try Descriptor.open("/dev/shm", 0o20200000 | O_RDWR)
        #expect(ftruncate(scratch.rawValue, 0x1000) == 0)
        #expect(throws: VhostUserError.mayShrink(guest: 0x2000)) { try table.add(region(0x2000, 0x1000, 0x2000), scratch) }
        let huge = try SealedMemory("huge", byteCount: 1 << 41, final: true)
        #expect(throws: VhostUserError.badRegion(guest: 0, byteCount: 1 << 40)) {
            try table.add(region(0, 1 << 40, 0), huge.descriptor)
        }
        #expect(throws: VhostUserError.badRegion(guest: 0, byteCount: 0x1000)) {
            try table.add(region(0, 0x1000, 0, 1 << 40), huge.descriptor)
        }
        #expect(table.entries.isEmpty)
    }
}
