// Why a backend cannot go on where its predecessor stopped. The same for every class of device: what is wrong is with a
// journal, or with the rings that it is of.

import SharedMemory

/// Why rings cannot be taken over.
public enum RecoveryError: Error, Equatable, Sendable, CustomStringConvertible {
    /// The file is none of ours, or was being made.
    case noJournal
    /// The journal is of other rings.
    case anotherRing
    /// The indices contradict each other: the frontend wrote where only a backend does.
    case indices(String)
    /// A part of the journal is not what was written: which.
    case damaged(String)

    /// One line.
    public var description: String {
        switch self {
        case .noJournal: "there is no complete journal"
        case .anotherRing: "the journal is of other rings"
        case .indices(let text): text
        case .damaged(let part): "\(part) is damaged"
        }
    }
}

extension JournalHeader {
    /// Throws unless the journal in a region of at least `byteCount` bytes is of these rings.
    public func expect(in region: SharedRegion, byteCount: Int) throws(RecoveryError) {
        switch find(in: region, byteCount: byteCount) {
        case .noJournal: throw .noJournal
        case .another: throw .anotherRing
        case .these: break
        }
    }
}
