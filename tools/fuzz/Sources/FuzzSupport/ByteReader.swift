// A fuzzer's input as a stream of numbers that ends in zeroes.

/// Takes numbers off the front of an input; past its end everything is 0.
public struct ByteReader {
    private let bytes: [UInt8]
    private var place = 0

    /// Copies the input.
    public init(_ start: UnsafePointer<UInt8>?, _ count: Int) {
        bytes = Array(UnsafeBufferPointer(start: start, count: start == nil ? 0 : count))
    }

    /// The last byte, wherever the reader is: a choice that does not move what the others mean.
    public var last: UInt8 { bytes.last ?? 0 }

    /// Whether all was taken.
    public var isAtEnd: Bool { place >= bytes.count }

    /// The next byte.
    public mutating func byte() -> UInt8 {
        guard place < bytes.count else { return 0 }
        defer { place += 1 }
        return bytes[place]
    }

    /// The next number, little-endian.
    public mutating func number<N: FixedWidthInteger>(_ type: N.Type = N.self) -> N {
        var value: N = 0
        for shift in 0..<N.bitWidth / 8 { value |= N(truncatingIfNeeded: byte()) << (8 * shift) }
        return value
    }

    /// The next `count` bytes.
    public mutating func take(_ count: Int) -> [UInt8] { (0..<count).map { _ in byte() } }
}

/// Ends the process, which is a finding, unless `condition` holds.
@inline(__always)
public func require(_ condition: Bool, _ text: @autoclosure () -> String, line: UInt = #line) {
    if !condition { fatalError("line \(line): \(text())") }
}

/// What a target stands on: where it cannot be made, nothing can be said, and the process ends.
public func made<T: ~Copyable>(_ body: () throws -> T) -> T {
    do { return try body() } catch { fatalError("\(error)") }
}
