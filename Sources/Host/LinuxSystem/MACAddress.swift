// Ethernet addresses, as stores, command lines and frames have them.

/// A 48-bit Ethernet address.
public struct MACAddress: Hashable, Sendable, BitwiseCopyable, CustomStringConvertible {
    /// The first byte on the wire is the least significant here.
    public let littleEndian: UInt64

    /// From six bytes, the first on the wire lowest; upper bits are dropped.
    @inlinable public init(littleEndian: UInt64) { self.littleEndian = littleEndian & 0xFFFF_FFFF_FFFF }

    /// What Linux's netback gives its own side of a vif, so that no bridge adopts the address (protocol-rules.md 43).
    public static let backend = MACAddress(littleEndian: 0xFFFF_FFFF_FFFE)
    /// `ff:ff:ff:ff:ff:ff`.
    public static let broadcast = MACAddress(littleEndian: 0xFFFF_FFFF_FFFF)

    /// Parses `00:16:3e:01:02:03`, either case; nil for anything else.
    public init?(_ text: some StringProtocol) {
        let parts = text.split(separator: ":", omittingEmptySubsequences: false)
        guard parts.count == 6 else { return nil }
        var value: UInt64 = 0
        for (index, part) in parts.enumerated() {
            guard part.utf8.count == 2, part.utf8.allSatisfy({ Self.isHexDigit($0) }), let byte = UInt8(part, radix: 16) else {
                return nil
            }
            value |= UInt64(byte) << UInt64(8 * index)
        }
        self.init(littleEndian: value)
    }

    private static func isHexDigit(_ byte: UInt8) -> Bool {
        (0x30...0x39).contains(byte) || (0x41...0x46).contains(byte) || (0x61...0x66).contains(byte)
    }

    /// Group addresses, broadcast among them.
    @inlinable public var isMulticast: Bool { littleEndian & 1 != 0 }
    /// Byte `index` on the wire.
    public func byte(_ index: Int) -> UInt8 { UInt8(truncatingIfNeeded: littleEndian >> UInt64(8 * index)) }
    /// The six bytes in the order of the wire.
    public var bytes: [UInt8] { (0..<6).map { byte($0) } }
    /// `00:16:3e:01:02:03`.
    public var description: String {
        bytes.map { ($0 < 16 ? "0" : "") + String($0, radix: 16) }.joined(separator: ":")
    }
}
