// What a user may write where a disk is wanted.

/// A disk's place, parsed.
public enum DeviceTarget: Equatable, Sendable {
    /// A regular file or a block device.
    case path(String)
    /// An NBD export.
    case nbd(uri: String)
    /// A disk of so many bytes that does nothing.
    case null(byteCount: UInt64)

    private static let schemes = ["nbd", "nbds", "nbd+unix", "nbds+unix", "nbd+vsock", "nbds+vsock"]

    /// Parses `/path`, `nbd+unix:///?socket=…`, `null:1G`. A path that looks like one of the others is written `./null:1G`.
    public init(_ text: String) throws(DeviceError) {
        if text.isEmpty { throw .badTarget("\"\"", reason: "the disk's target is empty") }
        if text.hasPrefix("null:") {
            guard let byteCount = Self.byteCount(text.dropFirst(5)), byteCount >= 512 else {
                throw .badTarget(text, reason: "expected null:SIZE with SIZE in bytes or with a suffix K, M, G or T")
            }
            self = .null(byteCount: byteCount)
        } else if let scheme = Self.scheme(of: text) {
            guard Self.schemes.contains(scheme) else {
                throw .badTarget(text, reason: "unknown scheme \"\(scheme)\"; known are \(Self.schemes.joined(separator: ", "))")
            }
            self = .nbd(uri: text)
        } else {
            self = .path(text)
        }
    }

    /// What stands before `://`, if that is a URI's scheme.
    private static func scheme(of text: String) -> String? {
        guard let first = text.utf8.first, (0x61...0x7A).contains(first | 0x20) else { return nil }
        let scheme = text.utf8.prefix {
            (0x61...0x7A).contains($0 | 0x20) || (0x30...0x39).contains($0) || $0 == 0x2B || $0 == 0x2D || $0 == 0x2E
        }
        guard text.utf8.dropFirst(scheme.count).starts(with: "://".utf8) else { return nil }
        return String(decoding: scheme, as: UTF8.self).lowercased()
    }

    /// `4096`, `64K`, `1G`: binary multiples.
    static func byteCount(_ text: Substring) -> UInt64? {
        let shifts: [Character: UInt64] = ["K": 10, "M": 20, "G": 30, "T": 40]
        guard let last = text.last else { return nil }
        let shift = shifts[Character(last.uppercased())]
        let digits = shift == nil ? text : text.dropLast()
        guard digits.utf8.allSatisfy({ (0x30...0x39).contains($0) }), let number = UInt64(digits) else { return nil }
        let product = number.multipliedReportingOverflow(by: 1 << (shift ?? 0))
        return product.overflow || product.partialValue > 1 << 62 ? nil : product.partialValue
    }
}
