// A running PV domain's p2m, read the way the domain itself finds it. The list's mapping may change under the reader:
// the domain counts its changes, and a reading during which the count moved is thrown away. Single entries change
// without a count, so only a paused domain's table is of one moment.

import FrameMapReaders
import FrameMaps

/// A running PV domain, for reading. Used from one thread at a time.
public final class LiveDomain: MachineMemory, CustomStringConvertible {
    /// What Xen said of it when it was opened.
    public let facts: LiveDomainFacts
    /// The connection that it is read through.
    public let control: XenControl
    /// Readings before giving up on a domain that keeps changing its list's mapping.
    public static let attempts = 5

    /// Opens domain `id`; `autoTranslated` if it is not PV.
    public init(_ id: UInt16, _ control: XenControl) throws(LiveDomainError) {
        self.control = control
        facts = try control.facts(of: id)
        if facts.isAutoTranslated { throw .autoTranslated(UInt32(id)) }
    }

    /// Copies of the domain's frames.
    public func contents(of frames: [Mfn]) throws(LiveDomainError) -> [[UInt8]?] {
        try control.copies(frames, of: UInt32(facts.id))
    }

    /// The page that it shares with Xen, as it is now.
    public func sharedInfo() throws -> SharedInfo {
        // Named by machine frame, like every frame of a PV domain.
        let frame = Mfn(rawValue: facts.sharedInfoFrame)
        guard let page = try contents(of: [frame])[0] else { throw GuestTableError.unreadable(frame, role: "the shared page") }
        return SharedInfo(page, width: facts.guestWidth)
    }

    /// Its p2m as the domain keeps it, marks included. Throws `GuestTableError.unstable` if the list's mapping never
    /// kept still.
    public func guestTable() throws -> GuestTable {
        try GuestTable.stable(attempts: Self.attempts, in: self) { try sharedInfo() }
    }

    /// The frame map, the same type that a dump gives.
    public func snapshot() throws -> TableSnapshot {
        // As of a dump: two tables for each page that the domain has, however far apart it says that they lie.
        let tables = min(1 << 13 + 2 * UInt64(facts.pages), 1 << 20)
        return try guestTable().snapshot(owner: facts.id, frameLimit: control.frameLimit(), tableLimit: Int(tables))
    }

    /// `domain 3, 65536 pages, running`.
    public var description: String { "domain \(facts.id), \(facts.pages) pages, \(facts.isPaused ? "paused" : "running")" }
}
