// A strict reader of pcapng (draft-ietf-opsawg-pcapng): whatever the draft calls a must is one here. Shares nothing
// with the writer.

/// A file that breaks the format: where, and what is wrong.
package struct PcapngError: Error, CustomStringConvertible {
    package let description: String
    init(_ offset: Int, _ what: String) { description = "byte \(offset): \(what)" }
}

/// One file with one section and one interface.
package struct PcapngFile {
    /// An enhanced packet block.
    package struct Packet {
        package var nanoseconds: UInt64
        package var bytes: [UInt8]
        package var originalCount: Int
        package var comments: [String]
        /// 1: in, 2: out, 0: not known.
        package var direction: UInt32
        package var flags: UInt32
        package var dropped: UInt64
        package var queue: UInt32?
    }

    package private(set) var packets: [Packet] = []
    package private(set) var interfaceName = ""
    package private(set) var linkType = 0
    package private(set) var snaplen = 0
    package private(set) var resolution: UInt8 = 6
    /// `isb_ifrecv` and `isb_ifdrop`; nil without a statistics block.
    package private(set) var received: UInt64?
    package private(set) var dropped: UInt64?
    private var order: [UInt32] = []

    /// Parses a whole file, to its last byte.
    package init(_ bytes: [UInt8]) throws {
        var offset = 0
        while offset < bytes.count {
            let head = try Reader(bytes, offset, min(bytes.count, offset + 8))
            guard head.count == 8 else { throw PcapngError(offset, "a block of \(head.count) bytes") }
            let (type, length) = (head.u32(0), Int(head.u32(4)))
            guard length >= 12, length % 4 == 0, offset + length <= bytes.count else {
                throw PcapngError(offset, "a block of \(length) bytes where \(bytes.count - offset) are left")
            }
            let block = try Reader(bytes, offset, offset + length)
            guard Int(block.u32(length - 4)) == length else {
                throw PcapngError(offset, "two lengths: \(length), \(block.u32(length - 4))")
            }
            try take(type, try Reader(bytes, offset + 8, offset + length - 4), at: offset)
            order.append(type)
            offset += length
        }
        guard order.first == 0x0A0D_0D0A, order.dropFirst().first == 1 else {
            throw PcapngError(0, "no section or no interface first")
        }
        guard !order.dropFirst(2).contains(where: { $0 == 0x0A0D_0D0A || $0 == 1 }) else { throw PcapngError(0, "several") }
        if let place = order.firstIndex(of: 5), place != order.count - 1 { throw PcapngError(0, "statistics before the end") }
    }

    private mutating func take(_ type: UInt32, _ body: Reader, at offset: Int) throws {
        switch type {
        case 0x0A0D_0D0A:
            guard body.count >= 16, body.u32(0) == 0x1A2B_3C4D, body.u16(4) == 1, body.u16(6) == 0, body.u64(8) == .max else {
                throw PcapngError(offset, "a section header that is none")
            }
            _ = try body.options(from: 16)
        case 1:
            linkType = Int(body.u16(0))
            guard body.u16(2) == 0 else { throw PcapngError(offset, "reserved bits") }
            snaplen = Int(body.u32(4))
            for option in try body.options(from: 8) {
                switch option.code {
                case 2: interfaceName = option.text
                case 6:
                    guard option.bytes.count == 6 else { throw PcapngError(offset, "an address of \(option.bytes.count) bytes") }
                case 9:
                    guard option.bytes.count == 1 else { throw PcapngError(offset, "a resolution of \(option.bytes.count) bytes") }
                    resolution = option.bytes[0]
                case 3: break
                default: throw PcapngError(offset, "interface option \(option.code)")
                }
            }
        case 6: try takePacket(body, at: offset)
        case 5:
            guard body.u32(0) == 0 else { throw PcapngError(offset, "statistics of interface \(body.u32(0))") }
            for option in try body.options(from: 12) where option.code != 1 {
                guard (2...5).contains(option.code), option.bytes.count == 8 else {
                    throw PcapngError(offset, "statistics option \(option.code) of \(option.bytes.count) bytes")
                }
                if option.code == 4 { received = option.number }
                if option.code == 5 { dropped = option.number }
            }
        default: throw PcapngError(offset, "a block of type \(type)")
        }
    }

    private mutating func takePacket(_ body: Reader, at offset: Int) throws {
        guard body.count >= 20, body.u32(0) == 0 else { throw PcapngError(offset, "a packet of another interface") }
        let captured = Int(body.u32(12))
        let padded = (captured + 3) / 4 * 4
        guard 20 + padded <= body.count, snaplen == 0 || captured <= snaplen else {
            throw PcapngError(offset, "\(captured) bytes captured")
        }
        guard body.bytes(20 + captured, padded - captured).allSatisfy({ $0 == 0 }) else { throw PcapngError(offset, "padding") }
        var packet = Packet(
            nanoseconds: UInt64(body.u32(4)) << 32 | UInt64(body.u32(8)), bytes: body.bytes(20, captured),
            originalCount: Int(body.u32(16)), comments: [], direction: 0, flags: 0, dropped: 0)
        guard packet.originalCount >= captured else { throw PcapngError(offset, "more captured than there was") }
        for option in try body.options(from: 20 + padded) {
            switch (option.code, option.bytes.count) {
            case (1, _): packet.comments.append(option.text)
            case (2, 4): packet.flags = UInt32(option.number)
            case (4, 8): packet.dropped = option.number
            case (5, 8): break
            case (6, 4): packet.queue = UInt32(option.number)
            default: throw PcapngError(offset, "packet option \(option.code) of \(option.bytes.count) bytes")
            }
        }
        packet.direction = packet.flags & 3
        packets.append(packet)
    }

    /// Bytes of one block.
    private struct Reader {
        struct Option {
            var code: UInt16
            var bytes: [UInt8]
            var text: String { String(decoding: bytes, as: UTF8.self) }
            var number: UInt64 { bytes.reversed().reduce(0) { $0 << 8 | UInt64($1) } }
        }
        private let data: ArraySlice<UInt8>
        private let start: Int
        var count: Int { data.count }

        init(_ data: [UInt8], _ start: Int, _ end: Int) throws {
            self.data = data[start..<end]
            self.start = start
        }

        func bytes(_ offset: Int, _ count: Int) -> [UInt8] { Array(data[(start + offset)..<(start + offset + count)]) }
        private func number(_ offset: Int, _ count: Int) -> UInt64 {
            bytes(offset, count).reversed().reduce(0) { $0 << 8 | UInt64($1) }
        }
        func u16(_ offset: Int) -> UInt16 { UInt16(number(offset, 2)) }
        func u32(_ offset: Int) -> UInt32 { UInt32(number(offset, 4)) }
        func u64(_ offset: Int) -> UInt64 { number(offset, 8) }

        /// Options, which end exactly where the block does, with the one that says so.
        func options(from first: Int) throws -> [Option] {
            var offset = first
            var found: [Option] = []
            if offset == count { return [] }
            while true {
                guard offset + 4 <= count else { throw PcapngError(start + offset, "options without an end") }
                let (code, length) = (u16(offset), Int(u16(offset + 2)))
                let padded = (length + 3) / 4 * 4
                guard offset + 4 + padded <= count else { throw PcapngError(start + offset, "option \(code) of \(length) bytes") }
                if code == 0 {
                    guard length == 0, offset + 4 == count else { throw PcapngError(start + offset, "an end that is none") }
                    return found
                }
                guard bytes(offset + 4 + length, padded - length).allSatisfy({ $0 == 0 }) else {
                    throw PcapngError(start + offset, "padding")
                }
                found.append(Option(code: code, bytes: bytes(offset + 4, length)))
                offset += 4 + padded
            }
        }
    }
}
