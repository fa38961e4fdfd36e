// A frame that lies in several places. Whoever asks for its bytes gets copies; whoever wants a checksum completed gets
// it stored where it belongs.

import SharedMemory

/// The places of one frame, in order. Used again and again.
public struct FramePieces {
    /// Bytes in a row.
    public struct Piece {
        /// Where they lie.
        public var region: SharedRegion
        /// The first of them.
        public var offset: Int
        /// How many.
        public var byteCount: Int
    }

    /// In order.
    public private(set) var pieces: [Piece] = []
    /// Bytes in all.
    public private(set) var byteCount = 0

    /// No bytes.
    public init() { pieces.reserveCapacity(20) }

    /// Forgets all pieces; keeps the memory.
    public mutating func removeAll() {
        pieces.removeAll(keepingCapacity: true)
        byteCount = 0
    }

    /// Adds `count` bytes at `offset`.
    public mutating func append(_ region: SharedRegion, _ offset: Int, _ count: Int) {
        pieces.append(Piece(region: region, offset: offset, byteCount: count))
        byteCount += count
    }

    /// Copies at most `count` of the first bytes to `offset` of `target`; returns how many.
    public func copyHead(_ count: Int, to target: SharedRegion, at offset: Int) -> Int {
        var done = 0
        for piece in pieces {
            let part = min(piece.byteCount, count - done)
            if part <= 0 { break }
            target.copy(from: piece.region, piece.offset, count: part, to: offset + done)
            done += part
        }
        return done
    }

    /// Computes the checksum over everything from `checksum.start` on and stores it; false, storing nothing, if it lies
    /// outside. The field holds the pseudo header's sum already, so it is added like everything else.
    @discardableResult
    public func complete(_ checksum: FrameOffload.Checksum) -> Bool {
        let start = Int(checksum.start)
        let field = start + Int(checksum.field)
        guard field + 2 <= byteCount else { return false }
        var sum = InternetChecksum()
        var position = 0
        for piece in pieces {
            let skip = max(0, start - position)
            if skip < piece.byteCount { sum.add(piece.region, at: piece.offset + skip, count: piece.byteCount - skip) }
            position += piece.byteCount
        }
        // A sum of zero means "none" to UDP and is the same number as all ones.
        let value = sum.complement == 0 ? 0xFFFF : sum.complement
        store(UInt8(value >> 8), at: field)
        store(UInt8(value & 0xFF), at: field + 1)
        return true
    }

    private func store(_ byte: UInt8, at position: Int) {
        var left = position
        for piece in pieces {
            if left < piece.byteCount { return piece.region.store(byte, at: piece.offset + left) }
            left -= piece.byteCount
        }
    }
}
