// The Internet checksum (RFC 1071).

import SharedMemory

/// The checksum of IP, TCP and UDP under way.
public typealias InternetChecksum = WordSum

extension FrameHeaders {
    /// The pseudo header's sum over a transport header and payload of `count` bytes, not complemented: what a blank
    /// checksum field holds.
    public func pseudoHeaderSum(in region: SharedRegion, at offset: Int, count: Int) -> UInt16 {
        var sum = InternetChecksum()
        switch network {
        case .ipv4: sum.add(region, at: offset + networkOffset + 12, count: 8)
        case .ipv6: sum.add(region, at: offset + networkOffset + 8, count: 32)
        }
        sum.addWord(transport == .tcp ? 6 : 17)
        sum.addWord(UInt16(truncatingIfNeeded: count))
        return sum.folded
    }
}
