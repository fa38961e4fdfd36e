// The Toeplitz hash that spreads flows over queues (xen/io/netif.h; the same as receive-side scaling's).

import SharedMemory

/// A hash with its key.
public struct ToeplitzHash: Hashable, Sendable {
    /// Bytes that a key has at most, as receive-side scaling and Xen's control ring have it.
    public static let maximumKeySize = 40
    /// At most 40 bytes; what is missing is zero.
    public let key: [UInt8]

    /// A hash with a key of up to 40 bytes; what a shorter one lacks counts as zeros.
    public init(key: [UInt8]) { self.key = Array(key.prefix(Self.maximumKeySize)) }

    /// The hash of `input`.
    public func hash(_ input: some Sequence<UInt8>) -> UInt32 {
        var window: UInt64 = 0
        for index in 0..<8 { window = window << 8 | UInt64(index < key.count ? key[index] : 0) }
        var next = 8
        var hash: UInt64 = 0
        for byte in input {
            for bit in 0..<8 {
                if byte & (0x80 >> bit) != 0 { hash ^= window }
                window <<= 1
            }
            window |= UInt64(next < key.count ? key[next] : 0)
            next += 1
        }
        return UInt32(truncatingIfNeeded: hash >> 32)
    }

    /// The hash of a frame whose headers are at `offset` of a private copy, over the most that `types` allows; nil if
    /// none applies.
    public func hash(
        _ headers: FrameHeaders, in region: SharedRegion, at offset: Int, types: HashTypes
    ) -> (value: UInt32, over: HashTypes)? {
        let isTCP = headers.transport == .tcp && !headers.isFragment
        let isFour = headers.network == .ipv4
        let withPorts: HashTypes = isFour ? .ipv4TCP : .ipv6TCP
        let plain: HashTypes = isFour ? .ipv4 : .ipv6
        let chosen: HashTypes
        if isTCP, types.contains(withPorts) {
            chosen = withPorts
        } else if types.contains(plain) {
            chosen = plain
        } else {
            return nil
        }
        let addresses = isFour ? (12, 8) : (8, 32)
        var input = region.bytes(at: offset + headers.networkOffset + addresses.0, count: addresses.1)
        if chosen == withPorts { input += region.bytes(at: offset + headers.transportOffset, count: 4) }
        return (hash(input), chosen)
    }
}
