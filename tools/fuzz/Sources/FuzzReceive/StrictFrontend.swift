// A frontend that posts pages and reads strictly what comes of them.

import FuzzSupport
import NetworkProtocol
import NetworkRig
import Packets
import SharedMemory
import SharedRing

/// A frame that the device gave, and what may become of its checksum.
struct Given {
    var bytes: [UInt8]
    var offload: FrameOffload
}

/// The frontend's end: what it posted, what was answered, and what the device gave meanwhile.
struct StrictFrontend {
    let rig: NetworkRig
    let ring: SharedRegion
    let features: NetworkFeatures
    private(set) var posted: [ReceiveRequest] = []
    private var answered = 0
    /// The device's frames, in order.
    var given: [Given] = []
    /// The first of them that may still come.
    private var nextGiven = 0

    init(_ rig: NetworkRig, _ ring: SharedRegion, _ features: NetworkFeatures) {
        (self.rig, self.ring, self.features) = (rig, ring, features)
        ring.fill(0, count: 4096)
    }

    /// Pages posted and not answered.
    var outstanding: Int { posted.count - answered }

    mutating func post(_ request: ReceiveRequest) {
        request.store(ring, 64 + posted.count % 256 * 8)
        posted.append(request)
    }

    func publish() { ring.storeReleasing(UInt32(posted.count), at: RingHeader.requestProduced) }

    /// One packet as it stands on the ring.
    private struct Packet {
        var first: ReceiveResponse
        var bytes: [UInt8] = []
        var segmentation: ExtraInfo?
        var isRefused = false
    }

    /// Reads what was answered.
    mutating func read() {
        let produced = Int(ring.loadAcquiring(RingHeader.responseProduced))
        require(produced >= answered && produced <= posted.count, "\(produced) answers to \(posted.count) requests")
        // Where the frontend posted a page twice, a later frame has written over an earlier one, or what was moved up
        // has.
        let references = posted[answered...].map(\.reference)
        let areDistinct = Set(references).count == references.count
        while answered < produced {
            let packet = nextPacket(before: produced)
            if !packet.isRefused { find(packet, areDistinct) }
        }
    }

    private mutating func nextPacket(before produced: Int) -> Packet {
        var packet = Packet(first: ReceiveSlot(loading: ring, 64 + answered % 256 * 8).response)
        take(into: &packet)
        var more = packet.first.flags.contains(.extraInfo)
        while more {
            require(answered < produced, "an extra that is not there")
            let extra = ReceiveSlot(loading: ring, 64 + answered % 256 * 8).extra
            answered += 1
            require(extra.type == .segmentation || extra.type == .hash, "an extra of type \(extra.rawType)")
            if extra.type == .segmentation { packet.segmentation = extra }
            more = extra.hasMore
        }
        more = packet.first.flags.contains(.moreData)
        while more {
            require(answered < produced, "a slot that is not there")
            let next = take(into: &packet)
            require(!next.flags.contains(.extraInfo), "an extra behind a later slot")
            more = next.flags.contains(.moreData)
        }
        return packet
    }

    /// The next slot, whose bytes are the packet's.
    @discardableResult
    private mutating func take(into packet: inout Packet) -> ReceiveResponse {
        let response = ReceiveSlot(loading: ring, 64 + answered % 256 * 8).response
        let request = posted[answered]
        answered += 1
        require(response.id == request.id, "\(response) to \(request)")
        if response.status < 0 {
            packet.isRefused = true
            return response
        }
        require(
            !packet.isRefused && response.status > 0 && Int(response.offset) + Int(response.status) <= 4096, "\(response)")
        guard let page = rig.page(request.reference), page.isWritable else {
            fatalError("\(response) from a page that cannot be written")
        }
        packet.bytes += page.region.bytes(at: page.offset, count: Int(response.status))
        return response
    }

    /// The next frame of the device's that it can be: others were dropped, in order.
    private mutating func find(_ packet: Packet, _ areDistinct: Bool) {
        let (bytes, first) = (packet.bytes, packet.first)
        var place = nextGiven
        while place < given.count, !matches(packet, given[place], areDistinct) { place += 1 }
        require(place < given.count, "a frame of \(bytes.count) bytes that the device did not give: \(bytes.prefix(64)), \(first)")
        nextGiven = place + 1
        if packet.segmentation != nil {
            require(
                features.contains(given[place].offload.segmentation?.type == .tcp4 ? .tcp4 : .tcp6), "segments that are not taken")
        }
        if !features.contains(.scatterGather) { require(bytes.count <= 4096, "several slots") }
    }

    /// Whether a frame on the ring can be that one of the device's.
    private func matches(_ packet: Packet, _ given: Given, _ areDistinct: Bool) -> Bool {
        let (bytes, segmentation) = (packet.bytes, packet.segmentation)
        guard bytes.count == given.bytes.count, (segmentation != nil) == (given.offload.segmentation != nil) else { return false }
        if areDistinct {
            var (seen, wanted) = (bytes, given.bytes)
            if let checksum = given.offload.checksum, !packet.first.flags.contains(.checksumBlank) {
                // It was filled in.
                let field = Int(checksum.start) + Int(checksum.field)
                guard field + 2 <= bytes.count else { return false }
                for place in field...field + 1 { (seen[place], wanted[place]) = (0, 0) }
            }
            guard seen == wanted else { return false }
        }
        guard let segmentation else { return true }
        return segmentation.segmentSize == given.offload.segmentation?.size
            && segmentation.rawSegmentationType == (given.offload.segmentation?.type == .tcp4 ? 1 : 2)
    }
}
