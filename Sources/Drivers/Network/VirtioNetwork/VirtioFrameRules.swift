// Whether a driver's frame makes sense, and what a device's frame is to a driver. Pure: everything here rests on copies
// of what was shared, and on what was agreed.

import NetworkDevices
import Packets
import VirtioWire

/// Why a frame goes no further. Each that does not is counted once, by its reason.
public enum FrameFault: Int, Error, CaseIterable, Sendable, CustomStringConvertible {
    // MARK: From the driver

    /// Its ring is started and not enabled: what the driver sends is discarded (vhost-user.rst, "Ring states").
    case notEnabled
    /// Memory that the device is to write, in a chain that it is to send.
    case writableMemory
    /// Fewer bytes than a header has.
    case noHeader
    /// More pieces than a frame is sent in.
    case tooManyPieces
    /// Fewer bytes than an Ethernet header has.
    case tooShort
    /// More bytes than any packet has.
    case tooLong
    /// A checksum is left to be done, which was not agreed on.
    case checksumNotAgreed
    /// A checksum that begins, or belongs, behind the frame's end.
    case checksumOutside
    /// Segments of a kind that was not agreed on.
    case segmentsNotAgreed
    /// Segments whose checksum is not left to be done, as that of each has to be.
    case segmentsWithoutChecksum
    /// Segments of no bytes, or of as many as Linux has another meaning for.
    case segmentSize

    // MARK: From the device

    /// The driver cannot take it as it is, and nobody here can finish it.
    case unfit
    /// The driver's memory has no room for it.
    case noRoom
    /// The driver gave no memory for too long.
    case expired

    // MARK: Either way

    /// The device refused it, or gave something that is no frame.
    case device
    /// The device has no other end.
    case noCarrier

    /// As in `3 whose checksum lies outside`.
    public var description: String {
        switch self {
        case .notEnabled: "of rings that are not enabled"
        case .writableMemory: "in memory that is to be written"
        case .noHeader: "without a header"
        case .tooManyPieces: "in too many pieces"
        case .tooShort: "shorter than an Ethernet header"
        case .tooLong: "longer than any packet"
        case .checksumNotAgreed: "with a blank checksum, which was not agreed on"
        case .checksumOutside: "whose checksum lies outside"
        case .segmentsNotAgreed: "to be cut up in a way that was not agreed on"
        case .segmentsWithoutChecksum: "to be cut up whose checksum is not blank"
        case .segmentSize: "to be cut up into segments of no size"
        case .unfit: "that the driver cannot take"
        case .noRoom: "longer than the driver's memory"
        case .expired: "that waited too long for the driver's memory"
        case .device: "that the device refused"
        case .noCarrier: "for a wire without another end"
        }
    }
}

/// What was agreed on, as frames are held against it.
struct VirtioFrameRules: Equatable {
    /// What the driver may leave to the device.
    let taken: OffloadSet
    /// What the device may leave to the driver.
    let given: OffloadSet
    /// A received frame may lie in several chains.
    let isMergeable: Bool

    /// An IP packet of 65535 bytes behind an Ethernet header with a VLAN tag.
    static let mostBytes = 65535 + 18
    /// An Ethernet header.
    static let leastBytes = 14
    /// Pieces that a frame may be sent in: with the device's own header fewer than one call of the kernel's takes.
    static let mostPieces = 512

    init(_ features: VirtioFeatures) {
        typealias Network = VirtioFeatures.Network
        // Segments stand on blank checksums (virtio 1.2, 5.1.3.1); who takes them without has not agreed on them.
        taken = Self.offloads(features, Network.checksum, Network.hostTSO4, Network.hostTSO6)
        given = Self.offloads(features, Network.guestChecksum, Network.guestTSO4, Network.guestTSO6)
        isMergeable = features.contains(Network.mergeableBuffers)
    }

    private static func offloads(
        _ features: VirtioFeatures, _ checksum: VirtioFeatures, _ tcp4: VirtioFeatures, _ tcp6: VirtioFeatures
    ) -> OffloadSet {
        guard features.contains(checksum) else { return [] }
        var set: OffloadSet = .checksum
        if features.contains(tcp4) { set.insert(.tcp4) }
        if features.contains(tcp6) { set.insert(.tcp6) }
        return set
    }

    /// What the device has to do with a driver's frame.
    /// - Parameter byteCount: the frame's, without its header.
    @inline(__always)
    func offload(of header: NetworkHeader, byteCount: Int) throws(FrameFault) -> FrameOffload {
        guard byteCount >= Self.leastBytes else { throw .tooShort }
        guard byteCount <= Self.mostBytes else { throw .tooLong }
        var offload = FrameOffload()
        if header.flags & NetworkHeader.needsChecksum == 0, header.segmentation == NetworkHeader.whole { return offload }
        if header.flags & NetworkHeader.needsChecksum != 0 {
            guard taken.contains(.checksum) else { throw .checksumNotAgreed }
            // Three numbers of 16 bits at most: their sum cannot overflow.
            guard Int(header.checksumStart) + Int(header.checksumOffset) + 2 <= byteCount else { throw .checksumOutside }
            offload.checksum = .init(start: header.checksumStart, field: header.checksumOffset)
        }
        if header.segmentation != NetworkHeader.whole { offload.segmentation = try segmentation(header, byteCount) }
        return offload
    }

    private func segmentation(_ header: NetworkHeader, _ byteCount: Int) throws(FrameFault) -> FrameOffload.Segmentation {
        let type: SegmentationType
        // Congestion marks are not offered, so their bit makes another kind of it.
        switch header.segmentation {
        case NetworkHeader.tcp4 where taken.contains(.tcp4): type = .tcp4
        case NetworkHeader.tcp6 where taken.contains(.tcp6): type = .tcp6
        default: throw .segmentsNotAgreed
        }
        guard header.flags & NetworkHeader.needsChecksum != 0 else { throw .segmentsWithoutChecksum }
        // All ones is what Linux calls a packet that is cut already (GSO_BY_FRAGS): some kernels believed it of a
        // tap's user, and fell.
        guard header.segmentBytes > 0, header.segmentBytes < .max else { throw .segmentSize }
        // A hint; what reads it relies on its being in the frame, and behind the checksum.
        let least = Int(header.checksumStart) + Int(header.checksumOffset) + 2
        let headers = min(max(least, Int(header.headerBytes)), byteCount)
        return .init(type: type, size: header.segmentBytes, headerCount: UInt16(clamping: headers))
    }

    /// The header of a device's frame, and the checksum that has to be finished first, for the driver does not take it
    /// blank.
    @inline(__always)
    func header(for offload: FrameOffload) throws(FrameFault) -> (header: NetworkHeader, unfinished: FrameOffload.Checksum?) {
        var header = NetworkHeader()
        if let segmentation = offload.segmentation {
            let isTaken = given.contains(segmentation.type == .tcp4 ? .tcp4 : .tcp6)
            guard isTaken, offload.checksum != nil else { throw .unfit }
            header.segmentation = segmentation.type == .tcp4 ? NetworkHeader.tcp4 : NetworkHeader.tcp6
            header.segmentBytes = segmentation.size
            header.headerBytes = segmentation.headerCount
        }
        guard given.contains(.checksum) else { return (header, offload.checksum) }
        if let checksum = offload.checksum {
            header.flags = NetworkHeader.needsChecksum
            header.checksumStart = checksum.start
            header.checksumOffset = checksum.field
        } else if offload.isValidated {
            header.flags = NetworkHeader.checksumIsValid
        }
        return (header, nil)
    }
}
