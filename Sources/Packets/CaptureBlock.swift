// Blocks of a pcapng file (draft-ietf-opsawg-pcapng), as bytes in this machine's order, which the section header tells the reader.

/// Makes blocks. Pure.
public enum CaptureBlock {
    /// Begins a section: whoever reads on in the same file starts anew from here.
    public static func section(application: String) -> [UInt8] {
        var body = word(0x1A2B_3C4D) + half(1) + half(0) + [UInt8](repeating: 0xFF, count: 8)
        body += option(4, Array(application.utf8)) + end
        return block(0x0A0D_0D0A, body)
    }

    /// Describes the section's one interface, Ethernet, with times in nanoseconds.
    public static func interface(name: String) -> [UInt8] {
        block(1, half(1) + half(0) + word(0) + option(2, Array(name.utf8)) + option(9, [9]) + end)
    }

    /// One frame.
    /// - Parameters:
    ///   - time: nanoseconds since 1970.
    ///   - isInbound: towards the guest.
    ///   - dropped: frames that could not be written since the one before.
    public static func packet(
        _ frame: [UInt8], time: UInt64, originalCount: Int, isInbound: Bool, comment: String, dropped: UInt64
    ) -> [UInt8] {
        var body = word(0) + word(UInt32(truncatingIfNeeded: time >> 32)) + word(UInt32(truncatingIfNeeded: time))
        body += word(UInt32(frame.count)) + word(UInt32(originalCount)) + padded(frame)
        body += option(1, Array(comment.utf8)) + option(2, word(isInbound ? 1 : 2))
        if dropped > 0 { body += option(4, word(UInt32(truncatingIfNeeded: dropped)) + word(UInt32(truncatingIfNeeded: dropped >> 32))) }
        return block(6, body + end)
    }

    private static let end: [UInt8] = [0, 0, 0, 0]

    private static func block(_ type: UInt32, _ body: [UInt8]) -> [UInt8] {
        let size = word(UInt32(12 + body.count))
        return word(type) + size + body + size
    }

    private static func option(_ code: UInt16, _ value: [UInt8]) -> [UInt8] {
        let value = value.prefix(4000)
        return half(code) + half(UInt16(value.count)) + padded(Array(value))
    }

    private static func padded(_ bytes: [UInt8]) -> [UInt8] { bytes + [UInt8](repeating: 0, count: (4 - bytes.count % 4) % 4) }
    private static func half(_ value: UInt16) -> [UInt8] { withBytes(value) }
    private static func word(_ value: UInt32) -> [UInt8] { withBytes(value) }
    private static func withBytes<N: FixedWidthInteger>(_ value: N) -> [UInt8] {
        (0..<N.bitWidth / 8).map { UInt8(truncatingIfNeeded: (N(1).littleEndian == 1 ? value : value.byteSwapped) >> N($0 * 8)) }
    }
}
