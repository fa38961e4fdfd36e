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
    /// The text in a field of `size` bytes, to its first NUL or to the field's end. Whoever wrote the file wrote it,
    /// and it is printed on terminals and into documents: what is no printable ASCII is escaped (`\x1b`), and so is the
    /// backslash.
    func field(_ place: Int, _ size: Int) -> String {
        var text = ""
        for byte in self[place..<place + size].prefix(while: { $0 != 0 }) {
            switch byte {
            case 0x5C: text += "\\\\"
            case 0x20...0x7E: text.unicodeScalars.append(Unicode.Scalar(byte))
            default: text += "\\x" + (byte < 16 ? "0" : "") + String(byte, radix: 16)
            }
        }
        return text
    }
}

/// `0x1f40`.
func hexadecimal(_ number: UInt64) -> String { "0x" + String(number, radix: 16) }
