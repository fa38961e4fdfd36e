// Ethernet, VLAN, IPv4 and IPv6 headers of one frame, as far as offloads and hashes need them. Reads a private copy of
// a frame's first bytes; every length in it is the sender's word and is held against what is there.

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
    /// It has a routing header: the destination that its transport's checksum is over may be another than the IP
    /// header's.
    public let isRouted: Bool

    /// Bytes of a frame that are looked at first: Ethernet, two VLAN tags, IPv6 with a few extension headers, TCP with
    /// all options. Only IPv6's extension headers can reach further (`reachBeyond`); then more is looked at.
    public static let firstLook = 192

    /// Where a transport's checksum lies in its header.
    public var checksumField: Int { transport == .tcp ? 16 : 6 }

    /// Reads the headers in `region`, which only this process writes, at `offset`; nil for what is not IP or is cut
    /// short.
    /// - Parameter count: bytes there.
    public init?(in region: SharedRegion, at offset: Int, count: Int) {
        var isCut = false
        self.init(in: region, at: offset, count: count, isCut: &isCut)
    }

    /// The same.
    /// - Parameter isCut: set where a header goes on behind the bytes that are there: with more of the frame the answer
    ///   may be another. It is left alone otherwise.
    @inline(__always)
    public init?(in region: SharedRegion, at offset: Int, count: Int, isCut: inout Bool) {
        var reader = HeaderReader(region: region, offset: offset, count: count)
        defer { if reader.isCut { isCut = true } }
        guard let type = reader.etherType() else { return nil }
        networkOffset = reader.position
        let packet: HeaderReader.Packet?
        switch type {
        case 0x0800: (network, packet) = (.ipv4, reader.ipv4())
        case 0x86DD: (network, packet) = (.ipv6, reader.ipv6())
        default: return nil
        }
        guard let packet else { return nil }
        payloadCount = packet.payloadCount
        isFragment = packet.isFragment
        isRouted = packet.isRouted
        transportOffset = reader.position
        if !isFragment, packet.proto == 6, reader.has(20) {
            let length = (reader.byte(12) >> 4) * 4
            guard length >= 20, reader.has(length) else { return nil }
            transport = .tcp
            byteCount = transportOffset + length
        } else if !isFragment, packet.proto == 17, reader.has(8) {
            transport = .udp
            byteCount = transportOffset + 8
        } else {
            transport = nil
            byteCount = transportOffset
        }
    }

    /// Whether headers of a frame go on behind its first `count` bytes, which are in private memory at `offset`. For a
    /// frame of usual headers this costs a load or two.
    public static func reachBeyond(_ count: Int, in region: SharedRegion, at offset: Int) -> Bool {
        guard count >= firstLook else { return true }
        let type = UInt16(bigEndian: region.load(offset + 12))
        // IPv4's end at byte 134 with every option there is.
        if type == 0x0800 { return false }
        if type == 0x86DD {
            let next: UInt8 = region.load(offset + 20)
            if next == 6 || next == 17 { return false }
        }
        var isCut = false
        _ = FrameHeaders(in: region, at: offset, count: count, isCut: &isCut)
        return isCut
    }
}

/// A way through the headers, one after the other; nothing behind the copy's end is looked at.
private struct HeaderReader {
    let region: SharedRegion
    let offset: Int
    let count: Int
    /// Where the next header begins, bytes from the frame's start.
    var position = 0
    /// A header went on behind the copy's end.
    var isCut = false

    /// What an IP header says.
    struct Packet {
        var proto: Int
        var payloadCount: Int
        var isFragment = false
        var isRouted = false
    }

    /// Whether the next header has `bytes` at least.
    @inline(__always)
    mutating func has(_ bytes: Int) -> Bool {
        if position + bytes <= count { return true }
        isCut = true
        return false
    }
    @inline(__always) func byte(_ at: Int) -> Int { Int(region.load(offset + position + at, as: UInt8.self)) }
    @inline(__always) func word(_ at: Int) -> Int { Int(UInt16(bigEndian: region.load(offset + position + at))) }

    /// What the Ethernet frame carries, behind two VLAN tags at most.
    @inline(__always)
    mutating func etherType() -> Int? {
        guard count >= 14 else { return nil }
        position = 12
        var tags = 0
        while word(0) == 0x8100 || word(0) == 0x88A8 {
            tags += 1
            guard tags <= 2, has(6) else { return nil }
            position += 4
        }
        defer { position += 2 }
        return word(0)
    }

    @inline(__always)
    mutating func ipv4() -> Packet? {
        guard has(20), byte(0) >> 4 == 4 else { return nil }
        let length = (byte(0) & 15) * 4
        guard length >= 20, has(length) else { return nil }
        defer { position += length }
        // More fragments, or an offset.
        return Packet(proto: byte(9), payloadCount: max(0, word(2) - length), isFragment: word(6) & 0x3FFF != 0)
    }

    @inline(__always)
    mutating func ipv6() -> Packet? {
        guard has(40), byte(0) >> 4 == 6 else { return nil }
        var packet = Packet(proto: byte(6), payloadCount: word(4))
        position += 40
        // Hop-by-hop, routing, destination options, fragment, as many as there are; each is at least 8 bytes, so this
        // ends with the copy.
        while packet.proto == 0 || packet.proto == 43 || packet.proto == 60 || packet.proto == 44 {
            guard has(8) else { return nil }
            let length = packet.proto == 44 ? 8 : (byte(1) + 1) * 8
            if packet.proto == 44, word(2) & 0xFFF9 != 0 { packet.isFragment = true }
            if packet.proto == 43 { packet.isRouted = true }
            packet.proto = byte(0)
            guard has(length) else { return nil }
            position += length
            packet.payloadCount = max(0, packet.payloadCount - length)
            if packet.isFragment { break }
        }
        return packet
    }
}
