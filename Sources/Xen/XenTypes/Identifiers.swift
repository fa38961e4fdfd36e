// The numbers that domains exchange. Each is a type of its own: a reference is never a port.

/// A domain's number (`domid_t`, xen/xen.h).
public struct DomainID: RawRepresentable, Hashable, Comparable, Sendable, BitwiseCopyable, CustomStringConvertible {
    /// The number as Xen has it.
    public let rawValue: UInt16
    /// Wraps a number; values from 0x7FF0 on are Xen's own (`DOMID_SELF` and its like).
    @inlinable public init(rawValue: UInt16) { self.rawValue = rawValue }
    /// Wraps a number.
    @inlinable public init(_ rawValue: UInt16) { self.rawValue = rawValue }
    /// Domain 0, the control domain.
    public static let zero = DomainID(0)
    /// `DOMID_SELF`: the caller.
    public static let myself = DomainID(0x7FF0)
    /// Whether this can name a real domain (below `DOMID_FIRST_RESERVED`).
    @inlinable public var isOrdinary: Bool { rawValue < 0x7FF0 }
    /// By number.
    public static func < (a: DomainID, b: DomainID) -> Bool { a.rawValue < b.rawValue }
    /// The number in decimal, as store paths have it.
    public var description: String { String(rawValue) }
}

/// An index into a granter's table (`grant_ref_t`, xen/grant_table.h).
public struct GrantReference: RawRepresentable, Hashable, Sendable, BitwiseCopyable, CustomStringConvertible {
    /// The index.
    public let rawValue: UInt32
    /// Wraps an index.
    @inlinable public init(rawValue: UInt32) { self.rawValue = rawValue }
    /// Wraps an index.
    @inlinable public init(_ rawValue: UInt32) { self.rawValue = rawValue }
    /// The number in decimal, as store nodes have it.
    public var description: String { String(rawValue) }
}

/// A domain's event-channel port (`evtchn_port_t`, xen/event_channel.h).
public struct EventPort: RawRepresentable, Hashable, Sendable, BitwiseCopyable, CustomStringConvertible {
    /// The port number; 0 is never valid.
    public let rawValue: UInt32
    /// Wraps a port number.
    @inlinable public init(rawValue: UInt32) { self.rawValue = rawValue }
    /// Wraps a port number.
    @inlinable public init(_ rawValue: UInt32) { self.rawValue = rawValue }
    /// The number in decimal, as store nodes have it.
    public var description: String { String(rawValue) }
}

/// What a grant lets the peer do.
public enum GrantAccess: UInt8, Sendable, CustomStringConvertible {
    /// The peer may read the page (`GTF_readonly`).
    case readOnly
    /// The peer may read and write the page.
    case readWrite
    /// `read-only` or `read-write`.
    public var description: String { self == .readOnly ? "read-only" : "read-write" }
}

/// The result of one grant-table operation (`GNTST_*`, xen/grant_table.h). Raw values are Xen's.
public enum GrantStatus: Int16, Error, Sendable, CaseIterable, CustomStringConvertible {
    case okay = 0
    case generalError = -1
    case badDomain = -2
    case badGrantReference = -3
    case badHandle = -4
    case badVirtualAddress = -5
    case badDeviceAddress = -6
    case noDeviceSpace = -7
    case permissionDenied = -8
    case badPage = -9
    case badCopyArgument = -10
    case addressTooBig = -11
    case tryAgain = -12
    case noSpace = -13

    /// What Xen means by it.
    public var description: String {
        switch self {
        case .okay: "okay"
        case .generalError: "an error without a name"
        case .badDomain: "no such domain"
        case .badGrantReference: "no such grant, or not for this domain"
        case .badHandle: "bad handle"
        case .badVirtualAddress: "bad virtual address"
        case .badDeviceAddress: "bad device address"
        case .noDeviceSpace: "no room in the IOMMU"
        case .permissionDenied: "permission denied"
        case .badPage: "bad page"
        case .badCopyArgument: "a copy beyond its page"
        case .addressTooBig: "the page's address is too large"
        case .tryAgain: "the page is not there now"
        case .noSpace: "no room in the grant table"
        }
    }
}

/// A device's state in the store (`XenbusState`, xen/io/xenbus.h). Raw values are Xen's.
public enum XenbusState: Int, Sendable, CaseIterable {
    case unknown = 0
    case initialising = 1
    case initWait = 2
    case initialised = 3
    case connected = 4
    case closing = 5
    case closed = 6
    case reconfiguring = 7
    case reconfigured = 8
}
