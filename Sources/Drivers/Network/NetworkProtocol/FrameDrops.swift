// Why frames were dropped: each that does not reach the other side is counted once, by its reason.

import Glibc
import LinuxSystem
import Synchronization

/// Why a driver drops a frame.
public enum DropReason: Int, Sendable, CaseIterable, CustomStringConvertible {
    /// The peer's slots made no sense, or went too far.
    case malformed
    /// Its checksum or segmentation does not fit its headers.
    case unfit
    /// It has more bytes than whoever is to take it has room for.
    case tooLong
    /// The peer's pages could not be read or written.
    case unreachable
    /// The device has no wire: its other end is not there, or it was deleted.
    case noCarrier
    /// The device refused it.
    case refused
    /// The device gave something that is no frame, or one that was cut off.
    case spoilt
    /// A multicast frame that the frontend has not asked for.
    case unwanted
    /// The frontend posted no pages for too long.
    case expired
    /// Another queue had no room for it.
    case crowded
    /// A predecessor of this process had taken it.
    case lost

    /// As counters have it: `no-carrier`.
    public var description: String {
        switch self {
        case .tooLong: "too-long"
        case .noCarrier: "no-carrier"
        case .malformed: "malformed"
        case .unfit: "unfit"
        case .unreachable: "unreachable"
        case .refused: "refused"
        case .spoilt: "spoilt"
        case .unwanted: "unwanted"
        case .expired: "expired"
        case .crowded: "crowded"
        case .lost: "lost"
        }
    }

    /// That the device gave for a frame that it did not take.
    public init(_ error: Errno) {
        switch error.rawValue {
        case ENETDOWN, EBADFD: self = .noCarrier
        // It could not be mapped for the device.
        case ENOMEM: self = .unreachable
        case EMSGSIZE: self = .tooLong
        default: self = .refused
        }
    }

    /// What it means, for who reads a counter.
    public var meaning: String {
        switch self {
        case .malformed: "whose slots made no sense"
        case .unfit: "whose checksum or segmentation marks do not fit"
        case .tooLong: "longer than there is room for"
        case .unreachable: "whose pages could not be read or written"
        case .noCarrier: "for a wire without another end"
        case .refused: "that the device refused"
        case .spoilt: "that the device gave broken or cut off"
        case .unwanted: "of multicast groups that were not asked for"
        case .expired: "that waited too long for pages"
        case .crowded: "for which another queue had no room"
        case .lost: "that a killed backend had taken, slot by slot"
        }
    }
}

/// How many frames were dropped in one direction, by reason.
public struct FrameDrops: Sendable, Equatable {
    private var counts = InlineArray<11, UInt64>(repeating: 0)

    /// None.
    public init() { precondition(counts.count == DropReason.allCases.count, "one number for each reason") }

    /// How many for one reason.
    public subscript(_ reason: DropReason) -> UInt64 {
        get { counts[reason.rawValue] }
        set { counts[reason.rawValue] = newValue }
    }

    /// All of them.
    public var total: UInt64 { DropReason.allCases.reduce(0) { $0 &+ self[$1] } }

    /// Whether all numbers are the same.
    public static func == (first: Self, second: Self) -> Bool { DropReason.allCases.allSatisfy { first[$0] == second[$0] } }
}

/// Where an interface's queues count what they drop in one direction. From any thread; frames that are not dropped
/// never come here.
public final class DropCounter: Sendable {
    private let state = Mutex(FrameDrops())

    /// Nothing yet.
    public init() {}

    /// One more, or `count`.
    public func add(_ reason: DropReason, _ count: UInt64 = 1) { state.withLock { $0[reason] &+= count } }

    /// As of now.
    public var drops: FrameDrops { state.withLock { $0 } }
}

/// Both directions of an interface, from its frontend's point of view.
public struct InterfaceDrops: Sendable, Equatable {
    /// Frames from the frontend.
    public var transmit = FrameDrops()
    /// Frames for the frontend.
    public var receive = FrameDrops()
    /// None.
    public init(transmit: FrameDrops = FrameDrops(), receive: FrameDrops = FrameDrops()) {
        self.transmit = transmit
        self.receive = receive
    }
}
