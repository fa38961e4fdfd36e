// Which memory a device finds where, in memory that outlives the process: a successor that maps the same memory gives
// it the same address. What is not noted there gets another, and nothing else is lost by that.

import SharedMemory

/// A part of a region with an entry for each mapping. Used under its owner's lock.
public struct RegionBook: Sendable {
    /// Bytes that so many mappings take.
    public static func byteCount(entries: Int) -> Int { entries * Layout.size }

    private enum Layout {
        static let size = 48
        static let device = 0
        static let inode = 8
        static let offset = 16
        static let byteCount = 24
        static let address = 32
        /// 0: free. Else 1 for a mapping of this process's, 2 for a predecessor's that nobody has had since.
        static let age = 40
    }
    private let region: SharedRegion
    private let start: Int
    private let entries: Int

    /// The entries from byte `start` on; zeroes are none.
    public init(_ region: SharedRegion, at start: Int, entries: Int) {
        (self.region, self.start, self.entries) = (region, start, entries)
    }

    private func place(_ index: Int) -> Int { start + index * Layout.size }

    private func identity(_ place: Int) -> MemoryIdentity {
        MemoryIdentity(
            device: region.load(place + Layout.device), inode: region.load(place + Layout.inode),
            offset: region.load(place + Layout.offset))
    }

    private func isUsed(_ place: Int) -> Bool { region.loadRelaxed(place + Layout.age) != 0 }

    /// What is noted.
    var places: [(address: UInt64, byteCount: UInt64)] {
        (0..<entries).map(place).filter(isUsed).map { (region.load($0 + Layout.address), region.load($0 + Layout.byteCount)) }
    }

    /// Where memory is, or was.
    func address(of memory: MemoryIdentity, byteCount: UInt64) -> UInt64? {
        let found = (0..<entries).map(place).first { place in
            isUsed(place) && region.load(place + Layout.byteCount, as: UInt64.self) == byteCount && identity(place) == memory
        }
        return found.map { region.load($0 + Layout.address) }
    }

    /// Memory is there from now on. Where there is no room for it, or it is there twice, that is not noted.
    func note(_ memory: MemoryIdentity, byteCount: UInt64, at address: UInt64) {
        let all = (0..<entries).map(place)
        if let known = all.first(where: { isUsed($0) && identity($0) == memory }) {
            let isSame =
                region.load(known + Layout.address, as: UInt64.self) == address
                && region.load(known + Layout.byteCount, as: UInt64.self) == byteCount
            if isSame { region.storeReleasing(1, at: known + Layout.age) }
            return
        }
        guard let free = all.first(where: { !isUsed($0) }) else { return }
        region.store(memory.device, at: free + Layout.device)
        region.store(memory.inode, at: free + Layout.inode)
        region.store(memory.offset, at: free + Layout.offset)
        region.store(byteCount, at: free + Layout.byteCount)
        region.store(address, at: free + Layout.address)
        // Last: a kill leaves whole entries.
        region.storeReleasing(1, at: free + Layout.age)
    }

    /// Memory is there no more.
    func erase(_ memory: MemoryIdentity, at address: UInt64) {
        let found = (0..<entries).map(place).first { place in
            isUsed(place) && region.load(place + Layout.address, as: UInt64.self) == address && identity(place) == memory
        }
        if let found { region.storeReleasing(0, at: found + Layout.age) }
    }

    /// Another process's life begins: what nobody had in the last one is forgotten.
    func age() {
        for place in (0..<entries).map(place) where isUsed(place) {
            let age = region.loadRelaxed(place + Layout.age)
            region.storeReleasing(age >= 2 ? 0 : 2, at: place + Layout.age)
        }
    }
}
