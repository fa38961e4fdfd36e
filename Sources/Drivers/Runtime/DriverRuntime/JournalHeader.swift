// How every journal begins: a number that says which layout the file has, and which rings it is of. The number is
// stored last, so that a file that was being made is no journal.

import SharedMemory

/// The first words of a journal: its layout's number, then what tells one connection's rings from another's.
public struct JournalHeader: Sendable {
    private let magic: UInt32
    private let identity: [UInt32]

    /// - Parameters:
    ///   - magic: the layout's number, with its version.
    ///   - identity: references, ports, whatever a new connection has others of. From byte 4 on.
    public init(magic: UInt32, identity: [UInt32]) {
        self.magic = magic
        self.identity = identity
    }

    /// Begins a journal: the whole region empty, then `body`'s first entries, then the journal is one.
    public func begin(in region: SharedRegion, _ body: () -> Void = {}) {
        region.fill(0, count: region.byteCount)
        for (index, word) in identity.enumerated() { region.storeRelaxed(word, at: 4 + 4 * index) }
        body()
        region.storeReleasing(magic, at: 0)
    }

    /// What `find` finds.
    public enum Finding: Sendable {
        /// The file is none of ours, or was being made.
        case noJournal
        /// It is of other rings.
        case another
        /// It is of these.
        case these
    }

    /// Which journal there is in a region of at least `byteCount` bytes.
    public func find(in region: SharedRegion, byteCount: Int) -> Finding {
        guard region.byteCount >= max(byteCount, 4 + 4 * identity.count), region.loadAcquiring(0) == magic else {
            return .noJournal
        }
        let isOurs = identity.indices.allSatisfy { region.loadRelaxed(4 + 4 * $0) == identity[$0] }
        return isOurs ? .these : .another
    }
}
