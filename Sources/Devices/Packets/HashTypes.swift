// What of a frame its hash is taken over.

/// What a hash was taken over (`XEN_NETIF_CTRL_HASH_TYPE_*`).
public struct HashTypes: OptionSet, Hashable, Sendable, BitwiseCopyable {
    /// The bits.
    public let rawValue: UInt32
    /// Takes any bits.
    @inlinable public init(rawValue: UInt32) { self.rawValue = rawValue }
    /// Addresses of IPv4.
    public static let ipv4 = HashTypes(rawValue: 1)
    /// Addresses and ports of TCP over IPv4.
    public static let ipv4TCP = HashTypes(rawValue: 2)
    /// Addresses of IPv6.
    public static let ipv6 = HashTypes(rawValue: 4)
    /// Addresses and ports of TCP over IPv6.
    public static let ipv6TCP = HashTypes(rawValue: 8)
    /// All that there are.
    public static let all: HashTypes = [.ipv4, .ipv4TCP, .ipv6, .ipv6TCP]
}
