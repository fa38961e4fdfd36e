// What a killed device left to do in a packed ring. The in-flight memory is the front end's and the ring the driver's
// to write, so both are held against the ring before anything follows from them; a driver that lies loses requests of
// its own.

import SharedMemory
import VirtioWire

/// What is unanswered in a packed ring, by its in-flight memory.
public struct PackedInflightRecovery: Sendable {
    /// A chain that was taken and not answered.
    public struct Chain: Sendable {
        /// The driver's name for it.
        public let id: UInt16
        /// As the driver wrote them; looked at anew.
        let descriptors: [PackedDescriptor]
        let first: UInt16
        let last: UInt16
        let counter: UInt64
    }

    let area: RingArea
    let size: Int
    let nextCounter: UInt64
    let links: [UInt16]
    let free: UInt16
    /// Chains that were taken and not answered, oldest first.
    public let left: [Chain]
    /// Where the next used entry goes.
    public let used: PackedPosition

    /// Entries of the ring that they have.
    var entries: Int { left.reduce(0) { $0 + $1.descriptors.count } }

    /// Settles what the predecessor had shown without noting it, takes back what it had only prepared, and finds what
    /// it had not answered. Memory that was never used is begun. Every store leaves memory that recovers to the same.
    /// - Parameters:
    ///   - area: `PackedInflightLayout.byteCount(size)` bytes, aligned to eight.
    ///   - ring: the ring itself.
    ///   - size: entries of the ring.
    ///   - start: where a ring begins whose memory was never used.
    /// - Throws: `VirtqueueError.foreignInflight`, `.notAdoptable`, `.noSuchDescriptor`, `.alreadyInFlight`.
    public init(_ area: RingArea, ring: RingArea, size: Int, startingAt start: PackedPosition) throws(VirtqueueError) {
        self.area = area
        self.size = size
        let memory = area.region
        let version = memory.loadRelaxed16(area.offset + PackedInflightLayout.version)
        if version == 0 {
            guard start.offset < size else { throw .notAdoptable(available: start.rawValue, used: start.rawValue, size: size) }
            Self.begin(area, size: size, at: start)
        }
        let known = memory.loadRelaxed16(area.offset + PackedInflightLayout.size)
        guard version <= 1, known == UInt16(size) else {
            throw .foreignInflight(version: version, size: known, wanted: size)
        }
        (used, free) = try Self.settled(area, ring, size: size)
        var links = Array(repeating: UInt16(size), count: size)
        var isTaken = Array(repeating: false, count: size)
        var next = Int(free)
        while next < size, !isTaken[next] {
            isTaken[next] = true
            let place = Self.place(area, next)
            memory.storeReleasing16(0, at: place + PackedInflightLayout.flag)
            links[next] = memory.loadRelaxed16(place + PackedInflightLayout.link)
            next = Int(links[next])
        }
        var found: [Chain] = []
        for first in 0..<size where !isTaken[first] {
            let place = Self.place(area, first)
            guard memory.load(place + PackedInflightLayout.flag, as: UInt8.self) != 0 else { continue }
            found.append(try Self.chain(area, first, size: size, &isTaken, &links))
        }
        // An entry that is nowhere would be missing when the ring is full.
        if let lost = isTaken.firstIndex(of: false) { throw .noSuchDescriptor(UInt16(lost), size: size) }
        found.sort { ($0.counter, $0.first) < ($1.counter, $1.first) }
        var names: Set<UInt16> = []
        for chain in found where !names.insert(chain.id).inserted { throw .alreadyInFlight(chain.id) }
        self.links = links
        left = found
        nextCounter = (found.last?.counter ?? 0) &+ 1
        takeBack(ring)
        memory.storeReleasing(UInt32(free) | UInt32(free) << 16, at: area.offset + PackedInflightLayout.heads)
        memory.store(PackedInflightLayout.word(used, old: used), at: area.offset + PackedInflightLayout.positions)
    }

    private static func place(_ area: RingArea, _ entry: Int) -> Int {
        area.offset + PackedInflightLayout.entries + PackedInflightLayout.entrySize * entry
    }

    /// The version comes last: before it nothing else counts.
    private static func begin(_ area: RingArea, size: Int, at start: PackedPosition) {
        let memory = area.region
        memory.fill(area.offset, count: PackedInflightLayout.byteCount(size))
        for entry in 0..<size { memory.storeRelaxed16(UInt16(entry + 1), at: place(area, entry) + PackedInflightLayout.link) }
        memory.storeRelaxed16(UInt16(size), at: area.offset + PackedInflightLayout.size)
        memory.store(PackedInflightLayout.word(start, old: start), at: area.offset + PackedInflightLayout.positions)
        memory.storeReleasing16(1, at: area.offset + PackedInflightLayout.version)
    }

    /// The used position and the list, as they were before what was being published, or after it if it is shown.
    private static func settled(
        _ area: RingArea, _ ring: RingArea, size: Int
    ) throws(VirtqueueError) -> (used: PackedPosition, free: UInt16) {
        let positions: UInt64 = area.region.load(area.offset + PackedInflightLayout.positions)
        let heads = area.region.loadRelaxed(area.offset + PackedInflightLayout.heads)
        func position(_ half: UInt64, _ wrap: UInt64) -> PackedPosition {
            PackedPosition(
                rawValue: UInt16(truncatingIfNeeded: positions >> half) & 0x7FFF | (positions >> wrap & 0xFF != 0 ? 0x8000 : 0))
        }
        let (used, old) = (position(0, 32), position(16, 40))
        guard used.offset < size, old.offset < size else {
            throw .notAdoptable(available: old.rawValue, used: used.rawValue, size: size)
        }
        // The first entry's flags come last. The driver may have made it available since, in the next round: "used" is
        // then as it was.
        let flags = PackedDescriptor.loadFlags(ring.region, at: ring.offset + PackedDescriptor.byteCount * Int(old.offset))
        let isShown = used != old && flags.contains(.used) == old.wrap
        return isShown ? (used, UInt16(truncatingIfNeeded: heads)) : (old, UInt16(truncatingIfNeeded: heads >> 16))
    }

    /// The chain that begins at an entry, none of whose entries is another's.
    private static func chain(
        _ area: RingArea, _ first: Int, size: Int, _ isTaken: inout [Bool], _ links: inout [UInt16]
    ) throws(VirtqueueError) -> Chain {
        let memory = area.region
        let count = memory.loadRelaxed16(place(area, first) + PackedInflightLayout.count)
        guard count > 0, count <= size else { throw .chainTooLong(limit: size) }
        var descriptors: [PackedDescriptor] = []
        var entry = first
        for step in 0..<count {
            guard entry < size, !isTaken[entry] else { throw .noSuchDescriptor(UInt16(truncatingIfNeeded: entry), size: size) }
            isTaken[entry] = true
            let place = place(area, entry)
            descriptors.append(
                PackedDescriptor(
                    address: memory.load(place + PackedInflightLayout.address),
                    byteCount: memory.load(place + PackedInflightLayout.length), id: memory.load(place + PackedInflightLayout.id),
                    flags: DescriptorFlags(rawValue: memory.load(place + PackedInflightLayout.flags))))
            links[entry] = memory.loadRelaxed16(place + PackedInflightLayout.link)
            if step + 1 < count { entry = Int(links[entry]) }
        }
        return Chain(
            id: descriptors.last?.id ?? 0, descriptors: descriptors, first: UInt16(first), last: UInt16(entry),
            counter: memory.load(place(area, first) + PackedInflightLayout.counter))
    }

    /// Entries after the first of what was prepared and not shown carry the flags of used ones already: a driver would
    /// take them for answers as soon as those before them are.
    private func takeBack(_ ring: RingArea) {
        var position = used
        for _ in 0..<entries {
            let place = ring.offset + PackedDescriptor.byteCount * Int(position.offset)
            let flags = PackedDescriptor.loadFlags(ring.region, at: place)
            if flags.contains(.used) == position.wrap {
                PackedDescriptor.storeFlags(position.wrap ? .available : .used, ring.region, at: place)
            }
            position.advance(by: 1, size: UInt16(size))
        }
    }
}
