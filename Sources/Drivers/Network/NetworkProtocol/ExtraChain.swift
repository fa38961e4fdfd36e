// The slots of extra information behind a packet's first slot, on both rings: bounded, whatever the ring's size, and
// understood in one place.

import LinuxSystem
import Packets

/// Why a slot of extra information makes no sense, with the numbers.
public enum ExtraFault: Error, Hashable, Sendable, CustomStringConvertible {
    /// A type that is not in the protocol, as it was written.
    case unknownType(UInt8)
    /// A type for the second time.
    case repeated(UInt8)
    /// More slots than there are types.
    case endless(UInt8)
    /// Segments of so many bytes.
    case segmentSize(Int)
    /// Segmentation of no known kind, as it was written.
    case segmentationType(UInt8)

    /// One line.
    public var description: String {
        switch self {
        case .unknownType(let type): "extra information of type \(type)"
        case .repeated(let type): "extra information of type \(type) twice"
        case .endless(let type): "extra information of type \(type), more than there are types"
        case .segmentSize(let size): "segments of \(size) bytes"
        case .segmentationType(let type): "segmentation of type \(type)"
        }
    }
}

/// The chain of one packet, as far as it was pulled.
public struct ExtraChain: Sendable {
    /// Slots that were pulled.
    public private(set) var count = 0
    /// Whether the last of them says that one more follows.
    public private(set) var hasMore = true
    /// How the receiver may cut the packet; size in bytes of payload.
    public private(set) var segmentation: (type: SegmentationType, size: UInt16)?
    /// A multicast address that is wanted, or not any more.
    public private(set) var multicast: (address: MACAddress, isAdded: Bool)?
    private var seen: UInt8 = 0
    private let takesRepeats: Bool

    /// - Parameter takesRepeats: whether of several of a type the last counts, as in Linux's netfront; Linux's netback
    ///   refuses them.
    public init(takesRepeats: Bool = false) { self.takesRepeats = takesRepeats }

    /// Books the next slot; what is wrong with it, if something is.
    public mutating func take(_ extra: ExtraInfo) -> ExtraFault? {
        count += 1
        hasMore = extra.hasMore
        guard let type = extra.type else { return .unknownType(extra.rawType) }
        // Each type once, or as many as there are: a chain that does not end is a lie.
        guard count <= ExtraType.allCases.count else { return .endless(type.rawValue) }
        let bit = UInt8(1) << type.rawValue
        if seen & bit != 0, !takesRepeats { return .repeated(type.rawValue) }
        seen |= bit
        switch type {
        case .segmentation:
            guard let kind = SegmentationType(rawValue: extra.rawSegmentationType) else {
                return .segmentationType(extra.rawSegmentationType)
            }
            guard extra.segmentSize > 0 else { return .segmentSize(0) }
            segmentation = (kind, extra.segmentSize)
        case .multicastAdd, .multicastDelete: multicast = (extra.multicastAddress, type == .multicastAdd)
        case .hash, .xdp: break
        }
        return nil
    }
}
