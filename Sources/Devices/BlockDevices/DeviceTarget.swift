// What a user may write where a disk is wanted.

import LinuxSystem

/// A disk's place, parsed.
public enum DeviceTarget: Equatable, Sendable {
    /// A regular file or a block device.
    case path(String)
    /// An NBD export.
    case nbd(uri: String)
    /// A disk of so many bytes that does nothing.
    case null(byteCount: UInt64)
    /// A namespace of an NVMe controller that this process drives itself; nil: its only one.
    case nvme(PCIAddress, namespace: UInt32?)
    /// An image of a Ceph cluster.
    case rbd(RBDTarget)

    /// Parses `/path`, `nbd+unix:///?socket=…`, `null:1G`, `nvme:0000:00:04.0/1`, `rbd:pool/image`. A path that looks
    /// like one of the others is written `./null:1G`.
    public init(_ text: String) throws(DeviceError) {
        if text.isEmpty { throw .badTarget("\"\"", reason: "the disk's target is empty") }
        if text.hasPrefix("null:") {
            guard let byteCount = Self.byteCount(text.dropFirst(5)), byteCount >= 512 else {
                throw .badTarget(text, reason: "a null device is null:SIZE, bytes (at least 512) or with K, M, G or T: null:1G")
            }
            self = .null(byteCount: byteCount)
        } else if text.hasPrefix("nvme:") {
            self = try Self.controller(text)
        } else if text.hasPrefix("rbd:") {
            self = .rbd(try RBDTarget(text))
        } else if let (scheme, isURI) = Self.scheme(of: text) {
            let isOurs = isURI && Self.schemes.contains(scheme)
            if let mistake = isOurs ? Self.mistake(in: text, scheme: scheme) : Self.mistake(inWords: text, scheme: scheme) {
                throw .badTarget(text, reason: mistake)
            }
            self = isOurs ? .nbd(uri: text) : .path(text)
        } else {
            self = .path(text)
        }
    }

    /// `nvme:0000:00:04.0`, `nvme:0000:00:04.0/3`, `nvme:0000:00:04.0/ns3`, and QEMU's `nvme://0000:00:04.0/3`.
    private static func controller(_ text: String) throws(DeviceError) -> DeviceTarget {
        let rest = text.dropFirst("nvme:".count)
        let parts = (rest.hasPrefix("//") ? rest.dropFirst(2) : rest).split(separator: "/", omittingEmptySubsequences: false)
        guard let first = parts.first, let address = PCIAddress(first), parts.count <= 2 else {
            throw .badTarget(
                text,
                reason: "an NVMe controller is nvme:ADDRESS or nvme:ADDRESS/NAMESPACE: nvme:0000:00:04.0/1 (`causeway devices`)")
        }
        guard parts.count == 2 else { return .nvme(address, namespace: nil) }
        guard let number = UInt32(parts[1].hasPrefix("ns") ? parts[1].dropFirst(2) : parts[1]), number > 0, number < .max else {
            throw .badTarget(text, reason: "\"\(parts[1])\" is no namespace's number: 1 or more")
        }
        return .nvme(address, namespace: number)
    }

    /// What stands before a colon, if it could be a URI's scheme, and whether two slashes follow.
    private static func scheme(of text: String) -> (String, isURI: Bool)? {
        guard let first = text.utf8.first, (0x61...0x7A).contains(first | 0x20) else { return nil }
        let scheme = text.utf8.prefix {
            (0x61...0x7A).contains($0 | 0x20) || (0x30...0x39).contains($0) || $0 == 0x2B || $0 == 0x2D || $0 == 0x2E
        }
        let rest = text.utf8.dropFirst(scheme.count)
        guard rest.first == UInt8(ascii: ":") else { return nil }
        return (String(decoding: scheme, as: UTF8.self).lowercased(), rest.starts(with: "://".utf8))
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
