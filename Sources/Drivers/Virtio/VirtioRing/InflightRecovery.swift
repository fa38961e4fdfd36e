// What a killed device left to do. The in-flight memory is the front end's and the used index the driver's to write, so
// both are held against the ring before anything follows from them; a driver that lies loses requests of its own.

import SharedMemory

/// What is unanswered in a split ring, by its in-flight memory.
public struct InflightRecovery: Sendable {
    let area: RingArea
    let size: Int
    let nextCounter: UInt64
    /// Heads that were taken and not answered, oldest first.
    public let heads: [UInt16]
    /// The ring's used index.
    public let used: UInt16

    /// Settles what the predecessor had published without noting it, and finds what it had not answered. Memory that
    /// was never used is begun. Every store leaves memory that recovers to the same.
    /// - Parameters:
    ///   - area: `InflightLayout.byteCount(size)` bytes, aligned to eight.
    ///   - size: entries of the ring.
    ///   - used: the ring's used index as it stands in shared memory.
    /// - Throws: `VirtqueueError.foreignInflight`, `.notAdoptable`.
    public init(_ area: RingArea, size: Int, used: UInt16) throws(VirtqueueError) {
        self.area = area
        self.size = size
        self.used = used
        let memory = area.region
        let version = memory.loadRelaxed16(area.offset + InflightLayout.version)
        if version == 0 {
            Self.begin(area, size: size, used: used)
            heads = []
            nextCounter = 0
            return
        }
        let known = memory.loadRelaxed16(area.offset + InflightLayout.size)
        guard version == 1, known == UInt16(size) else {
            throw .foreignInflight(version: version, size: known, wanted: size)
        }
        try Self.settle(area, size: size, used: used)
        var found: [(counter: UInt64, head: UInt16)] = []
        for head in 0..<size {
            let place = area.offset + InflightLayout.entries + InflightLayout.entrySize * head
            guard memory.load(place + InflightLayout.flag, as: UInt8.self) != 0 else { continue }
            found.append((memory.load(place + InflightLayout.counter), UInt16(head)))
        }
        found.sort { ($0.counter, $0.head) < ($1.counter, $1.head) }
        heads = found.map(\.head)
        nextCounter = (found.last?.counter ?? 0) &+ 1
    }

    /// The version comes last: before it nothing else counts.
    private static func begin(_ area: RingArea, size: Int, used: UInt16) {
        area.region.fill(area.offset, count: InflightLayout.byteCount(size))
        area.region.storeRelaxed16(UInt16(size), at: area.offset + InflightLayout.size)
        area.region.storeRelaxed16(used, at: area.offset + InflightLayout.used)
        area.region.storeReleasing16(1, at: area.offset + InflightLayout.version)
    }

    /// What the used index has passed and `used_idx` has not was answered: the last so many along the list.
    private static func settle(_ area: RingArea, size: Int, used: UInt16) throws(VirtqueueError) {
        let memory = area.region
        let settled = memory.loadRelaxed16(area.offset + InflightLayout.used)
        let behind = used &- settled
        guard behind <= UInt16(size) else { throw .notAdoptable(available: settled, used: used, size: size) }
        var head = memory.loadRelaxed16(area.offset + InflightLayout.lastHead)
        for _ in 0..<behind {
            guard head < size else { throw .noSuchDescriptor(head, size: size) }
            let place = area.offset + InflightLayout.entries + InflightLayout.entrySize * Int(head)
            memory.storeReleasing(0, at: place + InflightLayout.flag)
            head = memory.loadRelaxed16(place + InflightLayout.link)
        }
        memory.storeReleasing16(used, at: area.offset + InflightLayout.used)
    }
}
