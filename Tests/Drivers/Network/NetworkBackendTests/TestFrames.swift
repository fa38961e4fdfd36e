// TCP frames for tests, with the headers that say what is left to be done in them.

import Packets
import SharedMemory

enum TestFrames {
    /// TCP over IPv4, or over IPv6; FIN and PSH are set, the checksum is blank.
    static func tcp(payload: Int, over version: Int = 4, seed: Int = 0) -> [UInt8] {
        let network = version == 4 ? 20 : 40
        var frame = [UInt8](repeating: 0, count: 14 + network + 20)
        frame.replaceSubrange(0..<12, with: [0, 0x16, 0x3E, 1, 2, 4, 0, 0x16, 0x3E, 1, 2, 3])
        let length = 20 + payload
        if version == 4 {
            frame.replaceSubrange(
                12..<34,
                with: [
                    8, 0, 0x45, 0, UInt8((length + 20) >> 8), UInt8((length + 20) & 0xFF), 0x12, 0x34, 0x40, 0, 64, 6, 0, 0, 10, 9,
                    0, 1, 10, 9, 0, 2,
                ])
        } else {
            frame.replaceSubrange(12..<22, with: [0x86, 0xDD, 0x60, 0, 0, 0, UInt8(length >> 8), UInt8(length & 0xFF), 6, 64])
            frame[23] = 0xFD
            frame[39] = 0xFD
            frame[53] = 2
        }
        let transport = 14 + network
        frame.replaceSubrange(
            transport..<transport + 20,
            with: [
                0x13, 0x88, 0x1F, 0x90, 0xFF, 0xFF, 0xFF, 0x00, 0, 0, 0, 1, 0x50, 0x19, 0x20, 0, 0, 0, 0, 0,
            ])
        frame += (0..<payload).map { UInt8(truncatingIfNeeded: $0 &* 13 &+ seed &+ $0 >> 8) }
        blank(&frame, transport)
        return frame
    }

    /// A virtio header: a blank checksum and segments.
    static func segmented(size: Int, over version: Int = 4) -> [UInt8] {
        let transport = UInt8(version == 4 ? 34 : 54)
        return [1, version == 4 ? 1 : 4, transport + 20, 0, UInt8(size & 0xFF), UInt8(size >> 8), transport, 0, 16, 0]
    }

    /// Whether the transport checksum of a TCP frame is right.
    static func isWhole(_ frame: [UInt8]) throws -> Bool {
        let region = try SharedRegion(anonymous: 17 * 4096)
        region.write(frame, at: 0)
        guard let headers = FrameHeaders(in: region, at: 0, count: frame.count) else { return false }
        var sum = InternetChecksum()
        sum.add(region, at: headers.transportOffset, count: frame.count - headers.transportOffset)
        sum.addWord(headers.pseudoHeaderSum(in: region, at: 0, count: frame.count - headers.transportOffset))
        return sum.folded == 0xFFFF
    }

    private static func blank(_ frame: inout [UInt8], _ transport: Int) {
        guard let region = try? SharedRegion(anonymous: 17 * 4096) else { return }
        region.write(Array(frame.prefix(1000)), at: 0)
        guard let headers = FrameHeaders(in: region, at: 0, count: min(frame.count, 192)) else { return }
        let sum = headers.pseudoHeaderSum(in: region, at: 0, count: frame.count - transport)
        frame[transport + 16] = UInt8(sum >> 8)
        frame[transport + 17] = UInt8(sum & 0xFF)
    }
}
