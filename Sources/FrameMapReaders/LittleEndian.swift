// Numbers out of bytes. Every caller has checked that they are there.

extension [UInt8] {
    /// The 32-bit number at `place`.
    @inline(__always)
    func number32(_ place: Int) -> UInt32 {
        UInt32(self[place]) | UInt32(self[place + 1]) << 8 | UInt32(self[place + 2]) << 16 | UInt32(self[place + 3]) << 24
    }
    /// The 64-bit number at `place`.
    @inline(__always)
    func number64(_ place: Int) -> UInt64 { UInt64(number32(place)) | UInt64(number32(place + 4)) << 32 }
    /// The 16-bit number at `place`.
    @inline(__always)
    func number16(_ place: Int) -> UInt16 { UInt16(self[place]) | UInt16(self[place + 1]) << 8 }
    /// A word of a guest: 4 or 8 bytes.
    @inline(__always)
    func word(_ place: Int, width: Int) -> UInt64 { width == 8 ? number64(place) : UInt64(number32(place)) }
    /// The text from `place` to its NUL; nil if it has none among the bytes.
    func text(_ place: Int) -> String? {
        guard place < count, let end = self[place...].firstIndex(of: 0) else { return nil }
        return String(decoding: self[place..<end], as: UTF8.self)
    }
    /// The text in a field of `size` bytes, to its first NUL or to the field's end.
    func field(_ place: Int, _ size: Int) -> String {
        String(decoding: self[place..<place + size].prefix { $0 != 0 }, as: UTF8.self)
    }
}

/// `0x1f40`.
func hexadecimal(_ number: UInt64) -> String { "0x" + String(number, radix: 16) }
