// What a tracer and a backend say to each other over the backend's socket: one question, one answer with two
// descriptors, then nothing: packets go through the ring. Closing the socket ends the trace, from either side.

import LinuxSystem
import XenTypes

/// Which device, and how much of it.
public struct TraceRequest: Equatable, Sendable {
    /// What is traced.
    public enum Kind: UInt32, Sendable, CustomStringConvertible {
        case interface = 0
        case disk = 1

        /// In a message.
        public var description: String { self == .interface ? "interface" : "disk" }
    }

    /// What the device is.
    public var kind: Kind
    /// The frontend's domain.
    public var domain: DomainID
    /// The device's number there.
    public var number: UInt32
    /// Bytes of each frame.
    public var snaplen: Int
    /// Bytes of records that may wait; see `RecordRing.isCapacity`.
    public var capacity: Int

    /// Asks for a device; by default for whole packets, with 4 MiB of them under way.
    public init(_ kind: Kind = .interface, domain: DomainID, number: UInt32, snaplen: Int = 1 << 18, capacity: Int = 1 << 22) {
        self.kind = kind
        self.domain = domain
        self.number = number
        self.snaplen = snaplen
        self.capacity = capacity
    }

    private static let magic: UInt32 = 0x5254_5743
    private static let version: UInt32 = 2
    static let byteCount = 28

    var bytes: [UInt8] {
        let words = [
            Self.magic, Self.version, UInt32(domain.rawValue), number, UInt32(clamping: snaplen), UInt32(clamping: capacity),
            kind.rawValue,
        ]
        var bytes: [UInt8] = []
        for word in words {
            for shift in [UInt32(0), 8, 16, 24] { bytes.append(UInt8(truncatingIfNeeded: word >> shift)) }
        }
        return bytes
    }

    init?(_ bytes: [UInt8]) {
        guard bytes.count == Self.byteCount else { return nil }
        var words = [UInt32](repeating: 0, count: 7)
        for (index, byte) in bytes.enumerated() { words[index / 4] |= UInt32(byte) << UInt32(8 * (index % 4)) }
        guard words[0] == Self.magic, words[1] == Self.version, let domain = UInt16(exactly: words[2]),
            let kind = Kind(rawValue: words[6])
        else { return nil }
        self.kind = kind
        self.domain = DomainID(domain)
        number = words[3]
        snaplen = Int(words[4])
        capacity = Int(words[5])
    }
}

/// A backend's answer.
enum TraceAnswer: Equatable {
    /// The ring's memory and its doorbell come along.
    case accepted(TraceSubject)
    /// One line.
    case refused(String)

    var bytes: [UInt8] {
        switch self {
        case .accepted(let subject):
            [1] + Array("\(subject.address?.description ?? "")\n\(subject.name)\n\(subject.description)".utf8)
        case .refused(let reason): [0] + Array(reason.utf8)
        }
    }

    init?(_ bytes: [UInt8]) {
        guard let first = bytes.first else { return nil }
        let text = String(decoding: bytes.dropFirst(), as: UTF8.self)
        if first == 0 {
            self = .refused(text)
            return
        }
        let parts = text.split(separator: "\n", maxSplits: 2, omittingEmptySubsequences: false)
        guard first == 1, parts.count == 3 else { return nil }
        let address = MACAddress(String(parts[0]))
        guard address != nil || parts[0].isEmpty else { return nil }
        self = .accepted(TraceSubject(name: String(parts[1]), description: String(parts[2]), address: address))
    }
}
