// One page of a grant table, version 1: 512 entries of 8 bytes (`struct grant_entry_v1`, xen/grant_table.h), shared
// between the granter and the hypervisor. The granter may change an entry at any time, so each word is loaded once and
// changed only by a compare-exchange that is tried a bounded number of times.

import SharedMemory
import XenTypes

/// The flags of an entry (`GTF_*`).
public struct GrantFlags: OptionSet, Sendable, Hashable {
    /// The bits.
    public let rawValue: UInt16
    /// Wraps bits.
    public init(rawValue: UInt16) { self.rawValue = rawValue }
    /// `GTF_permit_access`; the type is the two low bits, so that transfer and transitive entries do not match it.
    public static let permitAccess = GrantFlags(rawValue: 1)
    /// The bits that hold the kind of entry (`GTF_type_mask`).
    public static let typeMask = GrantFlags(rawValue: 3)
    /// The peer may only read (`GTF_readonly`).
    public static let readOnly = GrantFlags(rawValue: 1 << 2)
    /// Mapped for reading at this moment; set and cleared by the hypervisor.
    public static let reading = GrantFlags(rawValue: 1 << 3)
    /// Mapped for writing at this moment; set and cleared by the hypervisor.
    public static let writing = GrantFlags(rawValue: 1 << 4)
    /// `GTF_sub_page`, which version 1 does not have: an entry that carries it grants nothing.
    public static let subPage = GrantFlags(rawValue: 1 << 8)
    /// Held by a mapper.
    public static let inUse: GrantFlags = [.reading, .writing]
}

/// An entry's first word: flags, and the domain that is granted access. Changed only as a whole.
public struct GrantHeader: Hashable, Sendable {
    /// The entry's flags.
    public var flags: GrantFlags
    /// Which domain.
    public var domain: DomainID

    /// A header as given.
    public init(flags: GrantFlags, domain: DomainID) {
        self.flags = flags
        self.domain = domain
    }
    /// From the word as a little-endian machine loads it: `flags` is the entry's first field.
    public init(word: UInt32) {
        flags = GrantFlags(rawValue: UInt16(truncatingIfNeeded: word))
        domain = DomainID(UInt16(truncatingIfNeeded: word >> 16))
    }
    /// Both as the one word that is exchanged atomically.
    public var word: UInt32 { UInt32(flags.rawValue) | UInt32(domain.rawValue) << 16 }
}

/// A page of entries, as the hypervisor and the granter reach it.
public protocol GrantTableFrame: AnyObject {
    /// Loads an entry's first word, once.
    func header(_ slot: Int) -> GrantHeader
    /// Loads the frame number of an entry, once; made after the header was seen or changed.
    func frame(_ slot: Int) -> UInt32
    /// Replaces the header if it is `expected`; returns what was found.
    func exchange(_ slot: Int, expected: GrantHeader, desired: GrantHeader) -> GrantHeader
    /// Clears flags, whatever the granter does at the same moment.
    func clear(_ slot: Int, _ flags: GrantFlags)
    /// Writes an entry that grants nothing yet: the frame first, so that whoever sees the flags sees the frame.
    func write(_ slot: Int, _ header: GrantHeader, frame: UInt32)
}

/// Entries in a page of the table.
public let grantsPerTableFrame = SharedRegion.pageSize / 8
/// References below this one are the toolstack's (`GNTTAB_NR_RESERVED_ENTRIES`).
public let reservedGrants: UInt32 = 8

/// A page of entries in shared memory.
public final class SharedGrantTableFrame: GrantTableFrame, Sendable {
    /// The page of entries.
    public let region: SharedRegion

    /// - Parameter region: at least one page, writable.
    public init(_ region: SharedRegion) { self.region = region }

    /// Entry `slot`'s flags and domain, in one load.
    public func header(_ slot: Int) -> GrantHeader { GrantHeader(word: region.loadAcquiring(slot * 8)) }
    /// Entry `slot`'s frame.
    public func frame(_ slot: Int) -> UInt32 { region.loadAcquiring(slot * 8 + 4) }
    /// Replaces a header that is as expected; returns what was found.
    public func exchange(_ slot: Int, expected: GrantHeader, desired: GrantHeader) -> GrantHeader {
        GrantHeader(word: region.compareExchange(slot * 8, expected: expected.word, desired: desired.word))
    }
    /// Clears flags of an entry, atomically.
    public func clear(_ slot: Int, _ flags: GrantFlags) {
        region.bitwiseAnd(slot * 8, ~UInt32(flags.rawValue))
    }
    /// Writes a whole entry: the frame before the header that makes it valid.
    public func write(_ slot: Int, _ header: GrantHeader, frame: UInt32) {
        region.storeRelaxed(frame, at: slot * 8 + 4)
        region.storeReleasing(header.word, at: slot * 8)
    }
}
