// Numbers in a flat device's bytes, little-endian.

extension [UInt8] {
    /// The number at an offset; 0 where there are not as many bytes.
    func number<N: FixedWidthInteger & UnsignedInteger>(at offset: Int, as type: N.Type = N.self) -> N {
        let size = N.bitWidth / 8
        guard offset >= 0, offset <= count - size else { return 0 }
        return self[offset..<offset + size].reversed().reduce(0) { $0 << 8 | N($1) }
    }

    /// A number's bytes, at the end.
    mutating func append<N: FixedWidthInteger & UnsignedInteger>(number: N) {
        for shift in stride(from: 0, to: N.bitWidth, by: 8) { append(UInt8(truncatingIfNeeded: number >> N(shift))) }
    }
}
