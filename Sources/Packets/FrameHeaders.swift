// Ethernet, VLAN, IPv4 and IPv6 headers of one frame, as far as offloads and hashes need them. Reads a private copy of a frame's
// first bytes; every length in it is the sender's word and is held against what is there.

import SharedMemory

/// Where a frame's headers lie, in bytes from its start.
public struct FrameHeaders: Hashable, Sendable {
    /// What carries the packet.
    public enum Network: Hashable, Sendable {
        case ipv4
        case ipv6
    }
    /// What the packet carries.
    public enum Transport: Hashable, Sendable {
        case tcp
        case udp
    }
    /// The network header.
    public let network: Network
    /// Where the IP header begins, bytes.
    public let networkOffset: Int
    /// The transport header; nil for other protocols and for fragments behind the first.
    public let transport: Transport?
    /// Where the TCP or UDP header begins, bytes.
    public let transportOffset: Int
    /// All headers, a TCP header's options included.
    public let byteCount: Int
    /// What the network header says of the payload behind it (transport header included), at least 0.
    public let payloadCount: Int
    /// A piece of a larger packet: no offload applies.
    public let isFragment: Bool

    /// The most bytes of a frame that are looked at. Ethernet, two VLAN tags, IPv6 with a few extension headers, TCP with all
    /// options.
    public static let mostBytes = 192

    /// Where a transport's checksum lies in its header.
    public var checksumField: Int { transport == .tcp ? 16 : 6 }

    /// Reads the headers in `region`, which only this process writes, at `offset`; nil for what is not IP or is cut short.
    /// - Parameter count: bytes there, at most `mostBytes` of them are looked at.
    public init?(in region: SharedRegion, at offset: Int, count given: Int) {
        let count = min(given, Self.mostBytes)
        func byte(_ at: Int) -> Int { Int(region.load(offset + at, as: UInt8.self)) }
        func word(_ at: Int) -> Int { Int(UInt16(bigEndian: region.load(offset + at))) }
        guard count >= 14 else { return nil }
        var position = 12
        var type = word(position)
        var tags = 0
        while type == 0x8100 || type == 0x88A8 {
            tags += 1
            guard tags <= 2, position + 6 <= count else { return nil }
            position += 4
            type = word(position)
        }
        position += 2
        networkOffset = position
        var proto: Int
        var fragment = false
        switch type {
        case 0x0800:
            guard position + 20 <= count, byte(position) >> 4 == 4 else { return nil }
            let length = (byte(position) & 15) * 4
            guard length >= 20, position + length <= count else { return nil }
            network = .ipv4
            // More fragments, or an offset.
            fragment = word(position + 6) & 0x3FFF != 0
            proto = byte(position + 9)
            payloadCount = max(0, word(position + 2) - length)
            position += length
        case 0x86DD:
            guard position + 40 <= count, byte(position) >> 4 == 6 else { return nil }
            network = .ipv6
            proto = byte(position + 6)
            var left = word(position + 4)
            position += 40
            // Hop-by-hop, routing, destination options, fragment; each is at least 8 bytes, so this ends with the copy.
            while [0, 43, 60, 44].contains(proto) {
                guard position + 8 <= count else { return nil }
                let length = proto == 44 ? 8 : (byte(position + 1) + 1) * 8
                if proto == 44, word(position + 2) & 0xFFF9 != 0 { fragment = true }
                proto = byte(position)
                guard position + length <= count else { return nil }
                position += length
                left = max(0, left - length)
                if fragment { break }
            }
            payloadCount = left
        default: return nil
        }
        isFragment = fragment
        transportOffset = position
        if !fragment, proto == 6, position + 20 <= count {
            let length = (byte(position + 12) >> 4) * 4
            guard length >= 20, position + length <= count else { return nil }
            transport = .tcp
            byteCount = position + length
        } else if !fragment, proto == 17, position + 8 <= count {
            transport = .udp
            byteCount = position + 8
        } else {
            transport = nil
            byteCount = position
        }
    }
}
