// Between the marks that a ring's slots carry and the offloads that devices speak of. Both directions, for both
// drivers: to a frontend, blank checksums are called the same as to a backend.

import Packets
import SharedMemory

/// What a ring's slots say of a frame.
public struct FrameMarks: Hashable, Sendable {
    /// The transport checksum is blank (`csum_blank`).
    public var isBlank = false
    /// The data is known to be good (`data_validated`).
    public var isValidated = false
    /// The frame is to be cut up (the GSO extra).
    public var segmentation: (type: SegmentationType, size: UInt16)?

    /// No marks.
    public init() {}

    /// Whether all marks are the same.
    public static func == (a: FrameMarks, b: FrameMarks) -> Bool {
        a.isBlank == b.isBlank && a.isValidated == b.isValidated && a.segmentation?.type == b.segmentation?.type
            && a.segmentation?.size == b.segmentation?.size
    }
    /// Hashes all marks.
    public func hash(into hasher: inout Hasher) {
        hasher.combine(isBlank)
        hasher.combine(isValidated)
        hasher.combine(segmentation?.size)
    }
}

/// What a peer takes off our hands.
public struct PeerAbilities: OptionSet, Hashable, Sendable {
    /// The bits; this library's own.
    public let rawValue: UInt32
    /// Takes any bits.
    public init(rawValue: UInt32) { self.rawValue = rawValue }
    /// Completes blank checksums over IPv4.
    public static let checksum4 = PeerAbilities(rawValue: 1)
    /// Completes blank checksums over IPv6.
    public static let checksum6 = PeerAbilities(rawValue: 2)
    /// Takes TCP over IPv4 uncut.
    public static let tcp4 = PeerAbilities(rawValue: 4)
    /// Takes TCP over IPv6 uncut.
    public static let tcp6 = PeerAbilities(rawValue: 8)

    /// What a device may leave undone: blank checksums even if only one kind is taken, for the other is computed here.
    public var deviceOffloads: OffloadSet {
        var set: OffloadSet = []
        if !isDisjoint(with: [.checksum4, .checksum6]) { set.insert(.checksum) }
        if contains(.tcp4) { set.insert(.tcp4) }
        if contains(.tcp6) { set.insert(.tcp6) }
        return set
    }
}

extension FrameMarks {
    /// For a frame in which nothing is left to be done: all that a device is told of it, without a look at its bytes.
    /// Else nil.
    @inlinable
    public var finished: FrameOffload? {
        guard !isBlank, segmentation == nil else { return nil }
        var offload = FrameOffload()
        offload.isValidated = isValidated
        return offload
    }
}

extension FrameOffload {
    /// What a device must do with a frame that came marked so from a peer. The frame's head is in `region` at `head`, a
    /// copy that is sent instead of the original; the checksum of a frame to be cut up is made fit in it.
    /// - Returns: nil if the marks do not fit the frame: such a frame is answered with an error (protocol-rules.md 37,
    ///   attacks.md B24).
    public init?(_ marks: FrameMarks, in region: SharedRegion, head: Int, headCount: Int, byteCount: Int) {
        self.init()
        isValidated = marks.isValidated
        if marks.finished != nil { return }
        guard let headers = FrameHeaders(in: region, at: head, count: headCount), headers.transport != nil else { return nil }
        let field = headers.checksumField
        guard headers.transportOffset + field + 2 <= byteCount, headers.byteCount <= byteCount else { return nil }
        checksum = .init(start: UInt16(headers.transportOffset), field: UInt16(field))
        guard let segmentation = marks.segmentation else { return }
        guard headers.transport == .tcp, (segmentation.type == .tcp4) == (headers.network == .ipv4) else { return nil }
        // Linux calls it fixing up: a frame to be cut whose checksum was filled in, or a sum over another length. Where
        // there is a routing header only the sender knows the destination that its sum is over.
        if !(headers.isRouted && marks.isBlank) {
            let sum = headers.pseudoHeaderSum(in: region, at: head, count: byteCount - headers.transportOffset)
            region.store(sum.bigEndian, at: head + headers.transportOffset + field)
        }
        // One segment is no work.
        if byteCount - headers.byteCount > Int(segmentation.size) {
            self.segmentation = .init(type: segmentation.type, size: segmentation.size, headerCount: UInt16(headers.byteCount))
        }
    }

    /// How to mark a frame of a device's for a peer; `unfinished` is a checksum that the peer does not take.
    /// - Returns: nil for a frame that the peer cannot take at all.
    public func marks(
        for peer: PeerAbilities, _ headers: FrameHeaders?
    ) -> (marks: FrameMarks, unfinished: Checksum?)? {
        var marks = FrameMarks()
        marks.isValidated = isValidated
        if let segmentation {
            guard peer.contains(segmentation.type == .tcp4 ? .tcp4 : .tcp6), headers?.transport == .tcp else { return nil }
            marks.segmentation = (segmentation.type, segmentation.size)
        }
        guard let checksum else { return (marks, nil) }
        // A peer finds the checksum by the outermost headers; one that is elsewhere (a tunnel's inner one) it would
        // miss.
        if let headers, headers.transport != nil, headers.transportOffset == Int(checksum.start),
            headers.checksumField == Int(checksum.field), peer.contains(headers.network == .ipv4 ? .checksum4 : .checksum6),
            segmentation != nil || headers.transportOffset - headers.networkOffset <= NetworkLimits.blankHeaderBytes
        {
            marks.isBlank = true
            marks.isValidated = true
            return (marks, nil)
        }
        return segmentation == nil ? (marks, checksum) : nil
    }
}
