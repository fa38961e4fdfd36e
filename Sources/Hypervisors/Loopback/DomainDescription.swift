// A domain as a toolstack's hypercalls want to see it.

import HypervisorRules
import XenTypes

/// What the daemon says of a domain (`XEN_DOMCTL_getdomaininfo`).
package struct DomainDescription: Hashable, Sendable {
    /// The domain's number.
    package var domain: DomainID
    /// Pages of the runs that it has made.
    package var pages: UInt32
    /// Whether its toolstack calls it PVH; else it is PV.
    package var isTranslated: Bool
    /// Its UUID's sixteen bytes, as the store has it; zero where it has none.
    package var uuid: UUIDBytes

    /// Two halves of eight bytes each, the first byte the most significant.
    package struct UUIDBytes: Hashable, Sendable {
        package var high: UInt64
        package var low: UInt64

        /// From the text that the store has, such as `/vm/01234567-89ab-…`; anything else is zero.
        package init(path: String) {
            let digits = path.utf8.suffix(36).filter { $0 != UInt8(ascii: "-") }
            let text = String(decoding: digits, as: UTF8.self)
            guard text.utf8.count == 32, let high = UInt64(text.prefix(16), radix: 16), let low = UInt64(text.suffix(16), radix: 16)
            else {
                self.init(high: 0, low: 0)
                return
            }
            self.init(high: high, low: low)
        }

        init(high: UInt64, low: UInt64) {
            self.high = high
            self.low = low
        }

        /// The bytes in order.
        package var bytes: [UInt8] {
            [high, low].flatMap { half in (0..<8).map { UInt8(truncatingIfNeeded: half >> UInt64(56 - 8 * $0)) } }
        }
    }

    func encode(_ writer: inout MessageWriter) {
        writer.put(domain.rawValue); writer.put(pages); writer.put(UInt8(isTranslated ? 1 : 0))
        writer.put(uuid.high); writer.put(uuid.low)
    }

    /// Bytes in a message.
    static let byteCount = 23
    /// Domains in one answer.
    static let mostAtOnce = 1024

    static func decode(_ reader: inout MessageReader) throws(MalformedMessage) -> DomainDescription {
        DomainDescription(
            domain: DomainID(try reader.take(UInt16.self)), pages: try reader.take(),
            isTranslated: try reader.take(UInt8.self) != 0, uuid: UUIDBytes(high: try reader.take(), low: try reader.take()))
    }
}

extension PortStatus {
    func encode(_ writer: inout MessageWriter) {
        let (kind, domain, number): (UInt8, UInt16, UInt32) =
            switch self {
            case .closed: (0, 0, 0)
            case .unbound(let remote): (1, remote.rawValue, 0)
            case .interdomain(let remote, let port): (2, remote.rawValue, port.rawValue)
            case .virtual(let interrupt): (3, 0, interrupt)
            }
        writer.put(kind)
        writer.put(domain)
        writer.put(number)
    }

    static func decode(_ reader: inout MessageReader) throws(MalformedMessage) -> PortStatus {
        let kind = try reader.take(UInt8.self)
        let domain = DomainID(try reader.take(UInt16.self))
        let number = try reader.take(UInt32.self)
        switch kind {
        case 0: return .closed
        case 1: return .unbound(domain)
        case 2: return .interdomain(domain, EventPort(number))
        case 3: return .virtual(number)
        default: throw MalformedMessage()
        }
    }
}
