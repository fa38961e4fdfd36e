// A driver's memory behind an IOMMU, as the device of one queue sees it. A chain names IO addresses; before it is taken
// they are looked up, and from then on it names the driver's own, by which everything else goes on as without an IOMMU.
// What is not in the table is asked for, once a page; meanwhile the chain stays in its ring, and so do those behind it.
// What a chain was given is remembered until its answer: whoever takes a range back waits for that.

import SharedMemory

/// What a device has to say of its IO addresses.
public struct TranslationNotice: Equatable, Sendable {
    /// What of them.
    public enum Kind: Sendable {
        /// They are not known: what are they?
        case miss
        /// There was no answer, or one that forbids what was meant.
        case fail
    }

    /// A page's first address.
    public var address: UInt64
    /// What was meant to be done.
    public var rights: AccessRights
    /// What is said.
    public var kind: Kind

    /// The three.
    public init(_ kind: Kind, address: UInt64, _ rights: AccessRights) {
        self.kind = kind
        self.address = address
        self.rights = rights
    }
}

/// See the file's beginning. Used by one thread.
public final class TranslatedMemory: GuestMemory {
    /// Bytes of a page, for each of which is asked once.
    public static let pageBytes: UInt64 = 4096
    /// Pages that are asked for at once at most; a chain of more is asked for in parts.
    public static let mostAsked = 256
    /// Pieces that a chain may lie in, as entries cut it.
    public static let mostPieces = 1 << 14
    /// How long an answer may take, in nanoseconds.
    public static let patience: UInt64 = 1_000_000_000
    private static let tryAgainMicroseconds: UInt64 = 1000

    private var table: TranslationTable
    private var map: GuestMap
    private let now: () -> UInt64
    /// Says something to whoever has the table; false: there is no room for that at present.
    public var tell: (TranslationNotice) -> Bool = { _ in true }
    private var asked: [UInt64: Question] = [:]
    /// Pages of the chain in hand that were asked for in vain.
    private var unanswered: Set<UInt64> = []
    /// What the chains that are out were given, by their names.
    private var lent: [UInt16: [GuestRun]] = [:]
    /// Pages asked for, and chains that had to wait for them and did in vain.
    public private(set) var counts: (asked: UInt64, failed: UInt64) = (0, 0)

    private struct Question {
        let rights: AccessRights
        /// When it is answered by itself.
        let deadline: UInt64
        var isTold: Bool
    }

    /// - Parameter now: a clock that does not go back, nanoseconds.
    public init(_ table: TranslationTable, in map: GuestMap, now: @escaping () -> UInt64) {
        self.table = table
        self.map = map
        self.now = now
    }

    // MARK: What changes

    /// Other translations are true from now on.
    public func replaceTable(_ table: TranslationTable) {
        self.table = table
        if !asked.isEmpty { asked = asked.filter { table.entry(at: $0.key) == nil } }
    }

    /// The driver's memory is another.
    public func replaceMap(_ map: GuestMap) { self.map = map }

    /// A chain is given back.
    public func release(_ ticket: ChainTicket) { lent[ticket.id] = nil }

    /// Whether a chain that is out was given any of these IO addresses.
    public func isLent(_ range: ClosedRange<UInt64>) -> Bool {
        lent.values.joined().contains { run in
            run.address <= range.upperBound && run.address &+ UInt64(run.byteCount &- 1) >= range.lowerBound
        }
    }

    /// Whether nothing is left to be said.
    public var hasToldAll: Bool { asked.values.allSatisfy(\.isTold) }

    /// How long to wait with the chain that is not there yet, unless a table comes.
    public var waitMicroseconds: UInt64 {
        guard hasToldAll, let first = asked.values.map(\.deadline).min() else {
            return Self.tryAgainMicroseconds
        }
        let now = now()
        return first > now ? (first - now) / 1000 + 1 : 0
    }

    // MARK: Looking up

    /// How much of a run is in one piece, and where.
    private enum Step {
        case here(UInt64, byteCount: UInt32)
        case later
        case never
    }

    private func step(_ run: GuestRun, _ rights: AccessRights) -> Step {
        guard let entry = table.entry(at: run.address) else { return ask(run.address & ~(Self.pageBytes - 1), rights) }
        let target = entry.target + (run.address - entry.first)
        let left = entry.last - run.address
        // One byte more than is left, which may be as much as there are addresses.
        let count = UInt64(run.byteCount) <= left ? run.byteCount : UInt32(truncatingIfNeeded: left + 1)
        let piece = GuestRun(address: target, byteCount: count)
        guard entry.rights.isSuperset(of: rights), map.admits(piece, forWriting: rights.contains(.write)) else {
            _ = tell(TranslationNotice(.fail, address: run.address & ~(Self.pageBytes - 1), rights))
            return .never
        }
        return .here(target, byteCount: count)
    }

    /// Asks for a page, or sees that there was no answer.
    private func ask(_ page: UInt64, _ rights: AccessRights) -> Step {
        if unanswered.contains(page) { return .never }
        let now = now()
        if var question = asked[page] {
            guard question.deadline > now else {
                asked[page] = nil
                unanswered.insert(page)
                _ = tell(TranslationNotice(.fail, address: page, question.rights))
                return .never
            }
            if !question.isTold {
                question.isTold = tell(TranslationNotice(.miss, address: page, question.rights))
                asked[page] = question
            }
            return .later
        }
        guard asked.count < Self.mostAsked else { return .later }
        counts.asked += 1
        let isTold = tell(TranslationNotice(.miss, address: page, rights))
        asked[page] = Question(rights: rights, deadline: now + Self.patience, isTold: isTold)
        return .later
    }

    /// Looks up runs, and asks for all of their pages that are not there.
    private func lookUp(_ runs: some Sequence<GuestRun>, _ rights: AccessRights, into found: inout [GuestRun]) -> GuestReach {
        var late = 0
        for run in runs {
            var rest = run
            while rest.byteCount > 0 {
                let done: UInt32
                switch step(rest, rights) {
                case .never: return .outside
                case .here(let target, let count):
                    found.append(GuestRun(address: target, byteCount: count))
                    done = count
                case .later:
                    // Pages that are met again and again count, too: this is done anew with each answer.
                    late += 1
                    if asked.count >= Self.mostAsked || late >= Self.mostAsked { return .later }
                    let left = Self.pageBytes - rest.address % Self.pageBytes
                    done = UInt32(truncatingIfNeeded: min(left, UInt64(rest.byteCount)))
                }
                guard found.count <= Self.mostPieces else { return .outside }
                rest = GuestRun(address: rest.address &+ UInt64(done), byteCount: rest.byteCount - done)
            }
        }
        return late > 0 ? .later : .here
    }

    // MARK: GuestMemory

    /// What is there is known when the chain is whole.
    public func admits(_ run: GuestRun, forWriting: Bool) -> Bool { true }

    /// Of a chain's table; the chain itself is looked up by `settle`.
    public func piece(_ run: GuestRun, forWriting: Bool) -> GuestPiece {
        switch step(run, forWriting ? .write : .read) {
        case .later: .later
        case .never: .outside
        case .here(let target, let count): map.piece(GuestRun(address: target, byteCount: count), forWriting: forWriting)
        }
    }

    /// See `GuestMemory`.
    public func settle(_ chain: inout DescriptorChain) -> Bool {
        var (readable, writable): ([GuestRun], [GuestRun]) = ([], [])
        let reach = worst(
            lookUp(chain.readableRuns, .read, into: &readable), lookUp(chain.writableRuns, .write, into: &writable))
        switch reach {
        case .later: return false
        case .here:
            unanswered.removeAll()
            lent[chain.ticket.id] = Array(chain.runs)
            chain.replace(readable: readable, writable: writable)
            return true
        default: return settleLost(&chain)
        }
    }

    /// There is no answer before all of it is known, unless a part cannot be had.
    private func worst(_ one: GuestReach, _ other: GuestReach) -> GuestReach {
        if one == .outside || other == .outside { return .outside }
        return one == .later || other == .later ? .later : .here
    }

    /// Leaves the last byte to be written, where a device says that it could not do something.
    private func settleLost(_ chain: inout DescriptorChain) -> Bool {
        var last: [GuestRun] = []
        if let run = chain.writableRuns.last {
            let byte = GuestRun(address: run.address &+ UInt64(run.byteCount &- 1), byteCount: 1)
            switch lookUp([byte], .write, into: &last) {
            case .later: return false
            case .here: lent[chain.ticket.id] = [byte]
            default: last = []
            }
        }
        unanswered.removeAll()
        counts.failed += 1
        chain.replace(readable: [], writable: last)
        return true
    }
}
