// What a disk's user may see: of each sector, the writes that it may hold now, and those that it may hold after the
// power has failed.

/// The rules of a disk, told by what was asked and answered. Operations that overlap are never under way together.
struct DiskOracle {
    /// What one operation leaves in a sector.
    fileprivate struct Version: Hashable {
        /// The write's number; 0: zeroes, or what a discard leaves.
        var content: UInt64
        /// Which operation, in the order in which they were asked for.
        var order: UInt64
    }
    private struct Sector {
        /// What a read may find.
        var now: Set<Version> = [Version(content: 0, order: 0)]
        /// What may be there after a power failure.
        var durable: Set<Version> = [Version(content: 0, order: 0)]
    }
    private var sectors: [Sector]

    /// What a flush covers, noted when it is asked for.
    struct Mark {
        fileprivate let now: [Set<Version>]
        fileprivate let last: UInt64
    }

    /// A disk of zeroes.
    init(sectors count: Int) { sectors = Array(repeating: Sector(), count: count) }

    /// Sectors are to change: nobody knows what is there until that is answered.
    /// - Parameters:
    ///   - content: what is to be there; 0 of a discard, after which it may be, or what was there before.
    ///   - order: above all that were given before.
    mutating func asked(_ content: UInt64, order: UInt64, _ range: Range<Int>) {
        for index in range {
            sectors[index].now.insert(Version(content: content, order: order))
            sectors[index].durable.insert(Version(content: content, order: order))
        }
    }

    /// A write was done.
    mutating func done(_ number: UInt64, _ range: Range<Int>) {
        for index in range { sectors[index].now = [Version(content: number, order: number)] }
    }

    /// A flush is asked for.
    /// - Parameter last: the highest order until now.
    func mark(last: UInt64) -> Mark { Mark(now: sectors.map(\.now), last: last) }

    /// The flush was done: what was there when it was asked for stays, or is overwritten by what came since.
    mutating func flushed(_ mark: Mark) {
        for index in sectors.indices {
            sectors[index].durable = sectors[index].durable.filter {
                mark.now[index].contains($0) || $0.order > mark.last
            }
        }
    }

    /// Everybody's power failed.
    mutating func powerFailed() { for index in sectors.indices { sectors[index].now = sectors[index].durable } }

    /// A read found this; false: that can't be. What was found stays.
    mutating func found(_ content: UInt64, in index: Int) -> Bool {
        let matching = sectors[index].now.filter { $0.content == content }
        if matching.isEmpty { return false }
        sectors[index].now = matching
        return true
    }

    /// What may be there, for a message.
    func expectation(of index: Int) -> String {
        Set(sectors[index].now.map(\.content)).sorted().map { "\($0)" }.joined(separator: " or ")
    }
}
