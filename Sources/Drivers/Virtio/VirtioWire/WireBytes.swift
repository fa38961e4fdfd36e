// Structures of virtio as bytes. What a driver wrote is copied into private memory first, each byte loaded once, and
// taken apart there; a structure to be shown is put together there and stored whole, gaps as zero.

import SharedMemory

/// A fixed number of private bytes.
public protocol WireBytes: BitwiseCopyable, Sendable {
    /// How many.
    static var byteCount: Int { get }
    /// All of them zero.
    static var zero: Self { get }
    /// One of them.
    func byte(_ place: Int) -> UInt8
    /// Sets one of them.
    mutating func setByte(_ place: Int, to value: UInt8)
}

extension InlineArray: WireBytes where Element == UInt8 {
    /// See `WireBytes`.
    @inlinable public static var byteCount: Int { count }
    /// See `WireBytes`.
    @inlinable public static var zero: Self { Self(repeating: 0) }
    /// See `WireBytes`.
    @inlinable @inline(__always) public func byte(_ place: Int) -> UInt8 { self[place] }
    /// See `WireBytes`.
    @inlinable @inline(__always) public mutating func setByte(_ place: Int, to value: UInt8) { self[place] = value }
}

extension WireBytes {
    /// The little-endian integer that begins at `place`.
    @inlinable @inline(__always)
    public func integer<N: FixedWidthInteger & UnsignedInteger>(at place: Int, as type: N.Type = N.self) -> N {
        var value: N = 0
        for index in 0..<MemoryLayout<N>.size { value |= N(truncatingIfNeeded: byte(place + index)) << (8 * index) }
        return value
    }

    /// Puts an integer at `place`, little-endian.
    @inlinable @inline(__always)
    public mutating func put<N: FixedWidthInteger & UnsignedInteger>(_ value: N, at place: Int) {
        for index in 0..<MemoryLayout<N>.size {
            setByte(place + index, to: UInt8(truncatingIfNeeded: value >> (8 * index)))
        }
    }
}

/// A structure with one layout: little-endian integers at fixed places (virtio 1.x), of which any bytes are a value.
public protocol WireStructure: Sendable {
    associatedtype Bytes: WireBytes
    /// Takes the bytes apart.
    init(_ bytes: Bytes)
    /// The structure as it lies in memory.
    var bytes: Bytes { get }
}

extension WireStructure {
    /// Bytes that it takes.
    @inlinable public static var byteCount: Int { Bytes.byteCount }

    /// Loads the structure at `offset`, each byte once.
    @inlinable
    public init(_ region: SharedRegion, at offset: Int) {
        var bytes = Bytes.zero
        region.copyIn(offset, into: &bytes, byteCount: Bytes.byteCount)
        self.init(bytes)
    }

    /// Stores every byte of the structure at `offset`.
    @inlinable
    public func store(_ region: SharedRegion, at offset: Int) {
        region.copyOut(bytes, byteCount: Bytes.byteCount, at: offset)
    }

    /// The bytes as an array: what a message carries.
    public var array: [UInt8] {
        let bytes = bytes
        return (0..<Bytes.byteCount).map { bytes.byte($0) }
    }
}
