// A payload's numbers, in the order in which they lie; in native byte order, which is little-endian wherever this runs.

/// Reads on from where it is. A read beyond the end gives zeroes: who reads checks the length first.
struct PayloadReader {
    private let bytes: [UInt8]
    private var place = 0

    init(_ bytes: [UInt8]) { self.bytes = bytes }

    /// Bytes that are left.
    var count: Int { bytes.count - place }

    mutating func next<N: FixedWidthInteger & UnsignedInteger>(_ type: N.Type = N.self) -> N {
        var value: N = 0
        for index in 0..<MemoryLayout<N>.size where place + index < bytes.count {
            value |= N(truncatingIfNeeded: bytes[place + index]) << (8 * index)
        }
        place = min(place + MemoryLayout<N>.size, bytes.count)
        return value
    }

    mutating func take(_ count: Int) -> [UInt8] {
        let end = min(place + count, bytes.count)
        defer { place = end }
        return Array(bytes[place..<end])
    }
}

extension [UInt8] {
    /// Appends an integer as a payload has it.
    mutating func put<N: FixedWidthInteger & UnsignedInteger>(_ value: N) {
        for index in 0..<MemoryLayout<N>.size { append(UInt8(truncatingIfNeeded: value >> (8 * index))) }
    }
}
