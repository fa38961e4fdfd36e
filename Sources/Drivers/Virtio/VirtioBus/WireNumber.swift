// Numbers in the bytes of calls, little-endian.

import VirtioWire

/// Numbers as calls have them.
package enum WireNumber {
    /// The number at an offset; there must be as many bytes.
    package static func read<N: FixedWidthInteger & UnsignedInteger>(_ bytes: [UInt8], at offset: Int) -> N {
        bytes[offset..<offset + N.bitWidth / 8].reversed().reduce(0) { $0 << 8 | N($1) }
    }

    /// A number's bytes.
    package static func bytes<N: FixedWidthInteger & UnsignedInteger>(_ number: N) -> [UInt8] {
        stride(from: 0, to: N.bitWidth, by: 8).map { UInt8(truncatingIfNeeded: number >> N($0)) }
    }

    /// The bytes of a structure of a known length; zeroes behind what there is.
    package static func array<let count: Int>(_ bytes: [UInt8]) -> InlineArray<count, UInt8> {
        var array = InlineArray<count, UInt8>(repeating: 0)
        for (index, byte) in bytes.prefix(count).enumerated() { array[index] = byte }
        return array
    }
}
