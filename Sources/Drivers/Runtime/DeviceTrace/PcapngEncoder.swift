// The pcapng file format (draft-ietf-opsawg-pcapng): one section, one interface, in this host's byte order.

import LinuxSystem

/// Encodes a trace, block by block, into `bytes`; whoever writes them out empties it.
public struct PcapngEncoder: Sendable {
    /// Encoded and not yet taken.
    public var bytes: [UInt8] = []
    private var packets: UInt64 = 0
    private var lost: UInt64 = 0
    private var lastLost: UInt32 = 0
    private var began: UInt64 = 0

    /// Begins a file: the section's header and the interface.
    /// - Parameters:
    ///   - linkType: what its packets are; 1 is Ethernet.
    ///   - snaplen: bytes of a packet that are kept; 0: all.
    public init(_ subject: TraceSubject, linkType: UInt16, snaplen: Int, at nanoseconds: UInt64) {
        began = nanoseconds
        block(0x0A0D_0D0A) { block in
            block.put(UInt32(0x1A2B_3C4D))
            block.put(UInt16(1))
            block.put(UInt16(0))
            // The section's length is not known beforehand.
            block.put(UInt64.max)
            block.option(4, "causeway trace")
        }
        block(1) { block in
            block.put(linkType)
            block.put(UInt16(0))
            block.put(UInt32(clamping: snaplen))
            block.option(2, subject.name)
            block.option(3, subject.description)
            if let address = subject.address { block.option(6, address.bytes) }
            // Timestamps count 10^-9 seconds.
            block.option(9, [9])
        }
    }

    /// Adds one packet, or a note as a packet without bytes.
    ///
    /// Directions are those of the interface on the backend's side, as `tcpdump -i vif1.0` has them on a Xen host: what
    /// the frontend transmits comes in.
    public mutating func packet(_ record: some TracedRecord) {
        let header = record.header
        let missing = header.lost &- lastLost
        lastLost = header.lost
        lost &+= UInt64(missing)
        packets &+= 1
        let (number, packet) = (packets, record.packet)
        block(6) { block in
            block.put(UInt32(0))
            block.put(UInt32(truncatingIfNeeded: header.nanoseconds >> 32))
            block.put(UInt32(truncatingIfNeeded: header.nanoseconds))
            block.put(UInt32(packet.bytes.count))
            block.put(UInt32(max(packet.byteCount, packet.bytes.count)))
            block.put(packet.bytes)
            for comment in packet.comments { block.option(1, comment) }
            block.option(2, Self.flags(packet))
            if missing > 0 { block.option(4, UInt64(missing)) }
            block.option(5, number)
            block.option(6, UInt32(packet.queue))
        }
    }

    /// Ends the file: how many packets there are and how many were lost.
    /// - Parameter lost: the ring's count at the end.
    public mutating func statistics(at nanoseconds: UInt64, lost final: UInt32) {
        lost &+= UInt64(final &- lastLost)
        lastLost = final
        let (began, packets, lost) = (began, packets, lost)
        block(5) { block in
            block.put(UInt32(0))
            block.put(UInt32(truncatingIfNeeded: nanoseconds >> 32))
            block.put(UInt32(truncatingIfNeeded: nanoseconds))
            if lost > 0 { block.option(1, "\(lost) packets went by while this file's writer was behind; they are not in it") }
            block.option(2, Self.halves(began))
            block.option(3, Self.halves(nanoseconds))
            block.option(4, packets &+ lost)
            block.option(5, lost)
        }
    }

    /// Records lost so far, as of the last packet or of `statistics`.
    public var lostCount: UInt64 { lost }
    /// Packets so far.
    public var packetCount: UInt64 { packets }

    /// Bits 0 and 1: in or out; bits 2 to 4: to one, to a group, to all.
    private static func flags(_ packet: PcapngPacket) -> UInt32 {
        let flags = packet.direction.rawValue
        guard packet.isFrame, packet.bytes.count >= 6 else { return flags }
        let target = packet.bytes[..<6]
        return flags | (target.allSatisfy { $0 == 0xFF } ? 3 << 2 : target[0] & 1 != 0 ? 2 << 2 : 1 << 2)
    }

    /// A timestamp in an option: the upper half first.
    private static func halves(_ nanoseconds: UInt64) -> UInt64 { nanoseconds >> 32 | nanoseconds << 32 }

    /// Appends a block: its type, its length, its body, its length again.
    private mutating func block(_ type: UInt32, _ body: (inout Block) -> Void) {
        var block = Block()
        swap(&block.bytes, &bytes)
        let start = block.bytes.count
        block.put(type)
        block.put(UInt32(0))
        body(&block)
        if block.hasOptions { block.put(UInt32(0)) }
        let length = UInt32(block.bytes.count - start + 4)
        block.put(length)
        for index in 0..<4 { block.bytes[start + 4 + index] = UInt8(truncatingIfNeeded: length >> UInt32(8 * index)) }
        bytes = block.bytes
    }

    private struct Block {
        var bytes: [UInt8] = []
        var hasOptions = false

        mutating func put<N: FixedWidthInteger>(_ value: N) {
            for index in 0..<MemoryLayout<N>.size { bytes.append(UInt8(truncatingIfNeeded: value >> N(8 * index))) }
        }

        /// Bytes, and zeros up to a multiple of four.
        mutating func put(_ data: [UInt8]) {
            bytes += data
            for _ in 0..<(-data.count & 3) { bytes.append(0) }
        }

        mutating func option(_ code: UInt16, _ data: [UInt8]) {
            hasOptions = true
            put(code)
            put(UInt16(data.count))
            put(data)
        }

        mutating func option(_ code: UInt16, _ text: String) { option(code, Array(text.utf8.prefix(0xFFFF))) }

        mutating func option<N: FixedWidthInteger>(_ code: UInt16, _ value: N) {
            hasOptions = true
            put(code)
            put(UInt16(MemoryLayout<N>.size))
            put(value)
        }
    }
}
