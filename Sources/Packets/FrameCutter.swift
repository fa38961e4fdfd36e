// Cuts a large TCP frame into packets, for a peer that does not take large ones: what a kernel does where a frame leaves by a wire.

import SharedMemory

/// The packets of one large frame. Their checksums are left blank.
public struct FrameCutter {
    /// How many packets.
    public let count: Int
    /// Bytes of headers, the same for each.
    public let headCount: Int
    private let headers: FrameHeaders
    private let size: Int
    private let byteCount: Int

    /// Begins with a frame of `byteCount` bytes whose head is in `region`, private memory, at `head`. Nil if it is not what its marks say.
    public init?(_ segmentation: FrameOffload.Segmentation, in region: SharedRegion, head: Int, headCount given: Int, byteCount: Int) {
        guard let headers = FrameHeaders(in: region, at: head, count: given), headers.transport == .tcp, segmentation.size > 0,
            (segmentation.type == .tcp4) == (headers.network == .ipv4), headers.byteCount < byteCount
        else { return nil }
        self.headers = headers
        self.byteCount = byteCount
        headCount = headers.byteCount
        size = Int(segmentation.size)
        count = (byteCount - headers.byteCount + size - 1) / size
    }

    /// Where packet `index` has its payload in the frame.
    public func payload(_ index: Int) -> Range<Int> {
        let start = headCount + index * size
        return start..<min(start + size, byteCount)
    }

    /// The work that each packet leaves to be done.
    public var offload: FrameOffload {
        var offload = FrameOffload()
        offload.checksum = .init(start: UInt16(headers.transportOffset), field: UInt16(headers.checksumField))
        return offload
    }

    /// Writes the headers of packet `index`, made of the frame's at `head`, to `target` of the same region.
    public func writeHead(_ index: Int, in region: SharedRegion, head: Int, to target: Int) {
        region.copy(from: region, head, count: headCount, to: target)
        func word(_ at: Int) -> UInt16 { UInt16(bigEndian: region.load(target + at)) }
        func put(_ value: Int, at offset: Int) { region.store(UInt16(truncatingIfNeeded: value).bigEndian, at: target + offset) }
        let network = headers.networkOffset
        let transport = headers.transportOffset
        let transportCount = headCount - transport + payload(index).count
        switch headers.network {
        case .ipv4:
            put(transport - network + transportCount, at: network + 2)
            put(Int(word(network + 4)) + index, at: network + 4)
            put(0, at: network + 10)
            var sum = InternetChecksum()
            sum.add(region, at: target + network, count: transport - network)
            put(Int(sum.complement), at: network + 10)
        case .ipv6: put(transport - network - 40 + transportCount, at: network + 4)
        }
        let sequence = UInt32(bigEndian: region.load(target + transport + 4)) &+ UInt32(truncatingIfNeeded: index * size)
        region.store(sequence.bigEndian, at: target + transport + 4)
        var flags: UInt8 = region.load(target + transport + 13)
        // The end of the data is the last packet's to tell; that the window was halved (CWR), the first one's.
        if index + 1 < count { flags &= ~0x09 }
        if index > 0 { flags &= ~0x80 }
        region.store(flags, at: target + transport + 13)
        put(Int(headers.pseudoHeaderSum(in: region, at: target, count: transportCount)), at: transport + headers.checksumField)
    }
}
