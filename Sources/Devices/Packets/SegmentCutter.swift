// Cuts a large TCP packet into segments, as a network card does (TSO): the same headers before each piece of the
// payload, with lengths, sequence numbers, identifications and flags of its own. Transport checksums stay blank: each
// holds its own pseudo header's sum.

import SharedMemory

/// One packet being cut up. It lies in private memory.
public struct SegmentCutter {
    private let region: SharedRegion
    private let headers: FrameHeaders
    private let byteCount: Int
    private let size: Int
    private var index = 0

    /// The packet is the first `byteCount` bytes of `region`, which only this process writes; nil for what is no TCP
    /// packet with a payload.
    /// - Parameter size: bytes of payload of each segment but the last.
    public init?(_ region: SharedRegion, byteCount: Int, size: Int) {
        guard size > 0, let headers = FrameHeaders(in: region, at: 0, count: byteCount), headers.transport == .tcp,
            headers.byteCount < byteCount
        else { return nil }
        self.region = region
        self.headers = headers
        self.byteCount = byteCount
        self.size = size
    }

    /// How many segments there are in all.
    public var segments: Int { (byteCount - headers.byteCount + size - 1) / size }
    /// Bytes of all of them.
    public var totalBytes: Int { byteCount - headers.byteCount + segments * headers.byteCount }

    /// Bytes of the next segment; nil when all are written.
    public var nextByteCount: Int? { index < segments ? headers.byteCount + payloadCount : nil }

    private var payloadCount: Int { min(size, byteCount - headers.byteCount - index * size) }

    /// Writes the next segment to `target`, which has room for `nextByteCount` bytes at `offset`.
    public mutating func write(to target: SharedRegion, at offset: Int) {
        let payload = payloadCount
        target.copy(from: region, 0, count: headers.byteCount, to: offset)
        target.copy(from: region, headers.byteCount + index * size, count: payload, to: offset + headers.byteCount)
        let network = offset + headers.networkOffset
        let transport = offset + headers.transportOffset
        switch headers.network {
        case .ipv4:
            store(headers.byteCount - headers.networkOffset + payload, target, network + 2)
            store(Int(UInt16(bigEndian: region.load(headers.networkOffset + 4))) + index, target, network + 4)
            store(0, target, network + 10)
            var sum = InternetChecksum()
            sum.add(target, at: network, count: Int(target.load(network, as: UInt8.self) & 15) * 4)
            store(Int(sum.complement), target, network + 10)
        case .ipv6: store(headers.byteCount - headers.networkOffset - 40 + payload, target, network + 4)
        }
        let sequence = UInt32(bigEndian: region.load(headers.transportOffset + 4)) &+ UInt32(index * size)
        target.store(sequence.bigEndian, at: transport + 4)
        var flags: UInt8 = region.load(headers.transportOffset + 13)
        // FIN and PSH are the last segment's, "window reduced" the first's.
        if index + 1 < segments { flags &= ~0x09 }
        if index > 0 { flags &= ~0x80 }
        target.store(flags, at: transport + 13)
        store(Int(pseudoHeaderSum(payload, in: target, at: offset)), target, transport + headers.checksumField)
        index += 1
    }

    /// What the blank checksum of a segment with so many bytes of payload holds.
    private func pseudoHeaderSum(_ payload: Int, in target: SharedRegion, at offset: Int) -> UInt16 {
        let count = headers.byteCount - headers.transportOffset + payload
        guard headers.isRouted else { return headers.pseudoHeaderSum(in: target, at: offset, count: count) }
        // The sender alone knows the last destination. Its own sum has the packet's length in it; this one's belongs
        // there.
        var sum = InternetChecksum()
        sum.addWord(UInt16(bigEndian: region.load(headers.transportOffset + headers.checksumField)))
        sum.addWord(~UInt16(truncatingIfNeeded: byteCount - headers.transportOffset))
        sum.addWord(UInt16(truncatingIfNeeded: count))
        return sum.folded
    }

    /// A number of two bytes in the order of the wire.
    private func store(_ value: Int, _ target: SharedRegion, _ offset: Int) {
        target.store(UInt16(truncatingIfNeeded: value).bigEndian, at: offset)
    }
}
