// A virtual block device's name and number, as xen-vbd-interface(7) relates them.

/// Which disk a guest sees: the name as it was given, and the number that the store has.
public struct VirtualDevice: Hashable, Sendable, CustomStringConvertible {
    /// As given: `xvda`, `sdb3`, `d536p37`, `51712`, `0xca00`.
    public let name: String
    /// The `virtual-device` node's value; at most 2^31 - 1.
    public let number: UInt32

    /// Parses a name; nil if it is none. All forms of xen-vbd-interface(7).
    public init?(_ name: String) {
        guard let number = Self.number(of: name) else { return nil }
        self.name = name
        self.number = number
    }

    /// The device with this number under its usual name; nil from 2^31 on.
    public init?(number: UInt32) {
        guard number <= Self.largest else { return nil }
        self.number = number
        name = Self.name(of: number)
    }

    /// The name that a guest would usually give it, `xvda` for both `d0` and `51712`.
    public var canonicalName: String { Self.name(of: number) }

    /// The name as given.
    public var description: String { name }

    private static let largest: UInt32 = 0x7FFF_FFFF
    private static let extended: UInt32 = 1 << 28
}

// Encoding: xvd 202<<8|disk<<4|part below 16, 1<<28|disk<<8|part from there on; sd 8<<8|disk<<4|part;
// hd 3<<8 or 22<<8 |(disk&1)<<6|part.
extension VirtualDevice {
    private static func number(of name: String) -> UInt32? {
        if let (disk, part) = parse(name, prefix: "xvd", disks: 1 << 20, parts: 256) ?? parseDiskPartition(name) {
            return disk < 16 && part < 16 ? 202 << 8 | disk << 4 | part : extended | disk << 8 | part
        }
        if let number = literal(Substring(name)), number <= largest { return number }
        if let (disk, part) = parse(name, prefix: "hd", disks: 4, parts: 64) {
            return (disk < 2 ? 3 : 22) << 8 | (disk & 1) << 6 | part
        }
        if let (disk, part) = parse(name, prefix: "sd", disks: 16, parts: 16) { return 8 << 8 | disk << 4 | part }
        return nil
    }

    /// `PREFIXletters[partition]`; the letters count a, b … z, aa, ab …
    private static func parse(
        _ name: String, prefix: String, disks: UInt32, parts: UInt32
    ) -> (disk: UInt32, part: UInt32)? {
        guard name.hasPrefix(prefix) else { return nil }
        let tail = name.dropFirst(prefix.count)
        let letters = tail.prefix { $0.isLowercaseLetter }
        guard !letters.isEmpty, letters.count <= 6 else { return nil }
        var disk: UInt32 = 0
        for letter in letters.utf8 { disk = disk * 26 + UInt32(letter - 0x60) }
        let digits = tail.dropFirst(letters.count)
        guard let part = digits.isEmpty ? 0 : partition(digits), disk - 1 < disks, part < parts else { return nil }
        return (disk - 1, part)
    }

    /// A partition number: decimal, no leading zero.
    private static func partition(_ digits: Substring) -> UInt32? {
        guard digits.first != "0", digits.allSatisfy(\.isDecimalDigit) else { return nil }
        return UInt32(digits)
    }

    /// `dN` and `dNpM`.
    private static func parseDiskPartition(_ name: String) -> (disk: UInt32, part: UInt32)? {
        guard name.hasPrefix("d") else { return nil }
        let pieces = name.dropFirst().split(separator: "p", maxSplits: 1, omittingEmptySubsequences: false)
        guard let disk = literal(pieces[0]), disk < 1 << 20 else { return nil }
        guard pieces.count == 2 else { return (disk, 0) }
        guard let part = literal(pieces[1]), part < 256 else { return nil }
        return (disk, part)
    }

    /// A number in C's notation: decimal, 0x hexadecimal, 0 octal.
    private static func literal(_ text: Substring) -> UInt32? {
        guard let first = text.first, first.isDecimalDigit else { return nil }
        if text.hasPrefix("0x") || text.hasPrefix("0X") {
            let digits = text.dropFirst(2)
            return digits.first == "+" || digits.first == "-" ? nil : UInt32(digits, radix: 16)
        }
        return first == "0" && text.count > 1 ? UInt32(text.dropFirst(), radix: 8) : UInt32(text)
    }

    private static func name(of number: UInt32) -> String {
        func form(_ prefix: String, _ disk: UInt32, _ part: UInt32) -> String {
            prefix + letters(disk) + (part == 0 ? "" : String(part))
        }
        if number & extended != 0, number < 2 * extended {
            let disk = (number & (extended - 1)) >> 8
            let part = number & 0xFF
            // The extended form of a disk that has a short one would not come back as the same number.
            return disk < 16 && part < 16 ? String(number) : form("xvd", disk, part)
        }
        let minor = number & 0xFF
        switch number >> 8 {
        case 202: return form("xvd", minor >> 4, minor & 15)
        case 8: return form("sd", minor >> 4, minor & 15)
        case 3 where minor < 128: return form("hd", minor >> 6, minor & 63)
        case 22 where minor < 128: return form("hd", 2 + minor >> 6, minor & 63)
        default: return String(number)
        }
    }

    private static func letters(_ disk: UInt32) -> String {
        let last = String(UnicodeScalar(UInt8(0x61 + disk % 26)))
        return disk < 26 ? last : letters(disk / 26 - 1) + last
    }
}

extension VirtualDevice {
    /// Stands where a device will be filled in.
    static let placeholder = VirtualDevice(name: "", number: 0)

    private init(name: String, number: UInt32) {
        self.name = name
        self.number = number
    }
}
