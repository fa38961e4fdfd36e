// IP frames as an application's kernel hands them to an interface that does the checksums: with the pseudo header's sum
// in the field. Written from the RFCs, sharing nothing with the code under test.

import Packets

/// One frame, and where its parts are.
struct TestFrame {
    enum Transport: UInt8, CaseIterable {
        case tcp = 6
        case udp = 17
    }
    private(set) var bytes: [UInt8]
    let networkOffset: Int
    let transportOffset: Int
    let payloadOffset: Int
    let transport: Transport

    /// What its headers have beyond the least.
    struct Extras {
        /// VLAN tags before the type.
        var tags = 0
        /// Bytes of IPv4 options or of one IPv6 destination-options header; a multiple of 4, of 8 for IPv6.
        var options = 0
        var tcpOptions = 0
    }

    init(version: Int, transport: Transport, payload: Int, _ extras: Extras = Extras(), flow: UInt8 = 0, seed: Int = 0) {
        let (options, tcpOptions) = (extras.options, extras.tcpOptions)
        var bytes: [UInt8] = [0, 0x16, 0x3E, 1, 2, 3, 0, 0x16, 0x3E, 9, 9, 9]
        for tag in 0..<extras.tags { bytes += [0x81, 0, 0, UInt8(tag + 1)] }
        bytes += version == 4 ? [8, 0] : [0x86, 0xDD]
        networkOffset = bytes.count
        let headerCount = transport == .tcp ? 20 + tcpOptions : 8
        let count = headerCount + payload
        let addresses: [UInt8]
        if version == 4 {
            let length = 20 + options + count
            addresses = [10, 0, 0, 1, 10, 0, 1, flow]
            bytes += [
                0x45 + UInt8(options / 4), 0, UInt8(length >> 8 & 0xFF), UInt8(length & 0xFF), 0, 1, 0, 0, 64, transport.rawValue,
                0, 0,
            ]
            bytes += addresses + [UInt8](repeating: 1, count: options)
        } else {
            let length = options + count
            addresses =
                [0xFE, 0x80] + [UInt8](repeating: 0, count: 13) + [1, 0xFE, 0x80] + [UInt8](repeating: 0, count: 13) + [flow]
            bytes += [0x60, 0, 0, 0, UInt8(length >> 8 & 0xFF), UInt8(length & 0xFF), options > 0 ? 60 : transport.rawValue, 64]
            bytes += addresses
            if options > 0 { bytes += [transport.rawValue, UInt8(options / 8 - 1)] + [UInt8](repeating: 0, count: options - 2) }
        }
        transportOffset = bytes.count
        self.transport = transport
        bytes += [0x30, 0x39, 0, flow]
        if transport == .tcp {
            bytes += [0, 0, 0, 1, 0, 0, 0, 2, UInt8(5 + tcpOptions / 4) << 4, 0x10, 1, 0, 0, 0, 0, 0]
            bytes += [UInt8](repeating: 1, count: tcpOptions)
        } else {
            bytes += [UInt8(count >> 8 & 0xFF), UInt8(count & 0xFF), 0, 0]
        }
        payloadOffset = bytes.count
        bytes += (0..<payload).map { UInt8(truncatingIfNeeded: $0 &* 13 &+ seed &* 5 &+ $0 / 256) }
        var sum = addresses.indices.reduce(0) { $0 + Int(addresses[$1]) << ($1 % 2 == 0 ? 8 : 0) }
        sum += Int(transport.rawValue) + count
        while sum > 0xFFFF { sum = sum & 0xFFFF + sum >> 16 }
        let field = transportOffset + (transport == .tcp ? 16 : 6)
        bytes[field] = UInt8(sum >> 8)
        bytes[field + 1] = UInt8(sum & 0xFF)
        self.bytes = bytes
    }

    /// Its checksum is left undone.
    var blank: FrameOffload {
        var offload = FrameOffload()
        offload.checksum = .init(start: UInt16(transportOffset), field: transport == .tcp ? 16 : 6)
        return offload
    }

    /// It is to be cut into segments of `size` bytes of payload.
    func segmented(_ size: UInt16) -> FrameOffload {
        var offload = blank
        let type: Int = Int(bytes[networkOffset] >> 4)
        offload.segmentation = .init(type: type == 4 ? .tcp4 : .tcp6, size: size, headerCount: UInt16(payloadOffset))
        return offload
    }

    /// The ten bytes before it on a wire that say `offload`.
    static func header(_ offload: FrameOffload) -> [UInt8] {
        var header = [UInt8](repeating: 0, count: 10)
        if let checksum = offload.checksum {
            header[0] = 1
            let start = checksum.start
            header.replaceSubrange(6..<10, with: [UInt8(start & 0xFF), UInt8(start >> 8), UInt8(checksum.field), 0])
        }
        if let segmentation = offload.segmentation {
            header[1] = segmentation.type == .tcp4 ? 1 : 4
            let (count, size) = (segmentation.headerCount, segmentation.size)
            header.replaceSubrange(2..<6, with: [UInt8(count & 0xFF), UInt8(count >> 8), UInt8(size & 0xFF), UInt8(size >> 8)])
        }
        return header
    }

    /// Whether the transport's checksum in `frame`, which has this frame's headers, is right.
    func isFinished(_ frame: [UInt8]) -> Bool {
        guard frame.count == bytes.count else { return false }
        let addresses =
            bytes[networkOffset] >> 4 == 4 ? networkOffset + 12..<networkOffset + 20 : networkOffset + 8..<networkOffset + 40
        let data = Array(frame[addresses]) + Array(frame[transportOffset...])
        var sum = Int(transport.rawValue) + frame.count - transportOffset
        for index in data.indices { sum += Int(data[index]) << (index % 2 == 0 ? 8 : 0) }
        while sum > 0xFFFF { sum = sum & 0xFFFF + sum >> 16 }
        return sum == 0xFFFF
    }
}
