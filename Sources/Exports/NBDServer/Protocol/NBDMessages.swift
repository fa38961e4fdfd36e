// Requests and replies, as they lie in a buffer.

import SharedMemory

/// One request, as its client wrote it.
public struct NBDRequest: Sendable, Equatable {
    /// Bytes of a request's header.
    public static let headerBytes = 28

    /// How it is meant; bits that nobody knows among them.
    public var flags: NBDCommandFlags
    /// The command's number, known or not.
    public var command: UInt16
    /// The client's name for it.
    public var cookie: UInt64
    /// Where on the disk, bytes.
    public var offset: UInt64
    /// How much, bytes.
    public var byteCount: UInt32

    /// What `headerBytes` bytes at `place` say; nil: no request begins there.
    package init?(_ buffer: AlignedBuffer, at place: Int) {
        guard buffer.loadBig(place, as: UInt32.self) == NBDMagic.request else { return nil }
        flags = NBDCommandFlags(rawValue: buffer.loadBig(place + 4))
        command = buffer.loadBig(place + 6)
        cookie = buffer.loadBig(place + 8)
        offset = buffer.loadBig(place + 16)
        byteCount = buffer.loadBig(place + 24)
    }

    /// The first byte behind it; nil: there is no such byte.
    var end: UInt64? {
        let (sum, isBeyond) = offset.addingReportingOverflow(UInt64(byteCount))
        return isBeyond ? nil : sum
    }
}

/// Replies' headers, each in a place of its own. A read's data follows its header.
enum NBDReplyHeader {
    /// Bytes of a place: the longest header is 28.
    static let placeBytes = 32
    /// The chunk is its reply's last.
    private static let done: UInt16 = 1
    private static let none: UInt16 = 0
    private static let offsetData: UInt16 = 1
    private static let error: UInt16 = 1 << 15 | 1

    /// Writes a header, and says how long it is.
    /// - Parameters:
    ///   - dataBytes: of a read that succeeded; nil: there are none to follow.
    ///   - offset: where on the disk the data are from.
    ///   - isStructured: whether the client understands chunks.
    static func write(
        to buffer: AlignedBuffer, at place: Int, cookie: UInt64, _ outcome: NBDError, dataBytes: Int?, offset: UInt64,
        isStructured: Bool
    ) -> Int {
        guard isStructured else {
            buffer.storeBig(NBDMagic.simpleReply, at: place)
            buffer.storeBig(outcome.rawValue, at: place + 4)
            buffer.storeBig(cookie, at: place + 8)
            return 16
        }
        buffer.storeBig(NBDMagic.structuredReply, at: place)
        buffer.storeBig(done, at: place + 4)
        buffer.storeBig(cookie, at: place + 8)
        if outcome != .none {
            // A number and a message, which is empty.
            buffer.storeBig(error, at: place + 6)
            buffer.storeBig(UInt32(6), at: place + 16)
            buffer.storeBig(outcome.rawValue, at: place + 20)
            buffer.storeBig(UInt16(0), at: place + 24)
            return 26
        }
        guard let dataBytes else {
            buffer.storeBig(none, at: place + 6)
            buffer.storeBig(UInt32(0), at: place + 16)
            return 20
        }
        buffer.storeBig(offsetData, at: place + 6)
        buffer.storeBig(UInt32(8 + dataBytes), at: place + 16)
        buffer.storeBig(offset, at: place + 20)
        return 28
    }
}
