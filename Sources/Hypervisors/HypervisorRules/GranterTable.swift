// A granter's half of its grant table: which references are free, and the entries it writes itself. On Xen this is the
// guest kernel's job; the hypervisor only ever reads the result.

import XenTypes

/// References of one process: pages of the table that belong to it alone, so that two processes of a domain never meet
/// in one.
public struct GranterTable {
    private var frames: [Int: any GrantTableFrame] = [:]
    private var free: [UInt32] = []

    /// The defaults.
    public init() {}

    /// How many references can be had without another page.
    public var freeCount: Int { free.count }

    /// Adds the table's page number `index`.
    public mutating func add(_ frame: any GrantTableFrame, index: Int) {
        frames[index] = frame
        let first = UInt32(index * grantsPerTableFrame)
        let usable = max(first, reservedGrants)..<first + UInt32(grantsPerTableFrame)
        free.append(contentsOf: usable.reversed())
    }

    /// Offers `count` frames from `first` on to `peer`; nil if there are too few free references.
    public mutating func offer(count: Int, firstFrame first: UInt32, to peer: DomainID, access: GrantAccess) -> [GrantReference]? {
        guard count <= free.count else { return nil }
        let flags: GrantFlags = access == .readOnly ? [.permitAccess, .readOnly] : .permitAccess
        return (0..<UInt32(count)).map { offset in
            let reference = free.removeLast()
            let (frame, slot) = place(reference)
            frame?.write(slot, GrantHeader(flags: flags, domain: peer), frame: first &+ offset)
            return GrantReference(reference)
        }
    }

    /// Whether a peer holds the page, by the bits that the hypervisor sets.
    public func isInUse(_ reference: GrantReference) -> Bool {
        let (frame, slot) = place(reference.rawValue)
        return frame.map { !$0.header(slot).flags.isDisjoint(with: .inUse) } ?? false
    }

    /// Ends access and frees the reference; false while a peer holds the page (`gnttab_try_end_foreign_access`).
    public mutating func end(_ reference: GrantReference) -> Bool {
        let (frame, slot) = place(reference.rawValue)
        guard let frame else { return true }
        var seen = frame.header(slot)
        while true {
            if !seen.flags.isDisjoint(with: .inUse) { return false }
            let found = frame.exchange(slot, expected: seen, desired: GrantHeader(word: 0))
            if found == seen { break }
            seen = found
        }
        free.append(reference.rawValue)
        return true
    }

    private func place(_ reference: UInt32) -> ((any GrantTableFrame)?, Int) {
        (frames[Int(reference) / grantsPerTableFrame], Int(reference) % grantsPerTableFrame)
    }
}
