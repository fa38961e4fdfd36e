// What a network frontend asks for. Each feature can be switched off, for tests and for backends that get one wrong.

import NetworkProtocol
import Reactor

/// What a network frontend asks for; the backend's offer caps each.
public struct NetworkFrontendOptions: Sendable {
    /// What it takes from the backend, and what it gives it at most.
    public var features: NetworkFeatures = .all
    /// Queues wanted.
    public var queues = 1
    /// Whether each direction gets a doorbell of its own.
    public var splitChannels = true
    /// Whether the backend is asked, through the control ring, to keep all pages mapped.
    public var mapsGrants = true
    /// Whether to set up a control ring at all.
    public var controlRing = true
    /// Whether only the multicast addresses that are asked for come through.
    public var multicastControl = false
    /// Threads that move frames; the queues take turns on them.
    public var reactors = 1
    /// How the reactors wait.
    public var polling: PollingPolicy = .onHost
    /// Whether this end may be made to go wrong on purpose: for tests of backends.
    public var takesFaults = false
    /// Gets lines of what is not wrong: that the interface was connected. nil: the log has them, too.
    public var notes: (@Sendable (String) -> Void)?

    /// The defaults.
    public init() {}
}

/// Why a frontend could not do it.
public enum NetworkFrontendError: Error, Hashable, Sendable, CustomStringConvertible {
    /// The handshake failed: what and where.
    case negotiation(String)
    /// The backend did not get there in time: what was waited for.
    case timedOut(String)
    /// The device was taken away.
    case removed

    /// One line.
    public var description: String {
        switch self {
        case .negotiation(let text): text
        case .timedOut(let text): "timed out: \(text)"
        case .removed: "the device was removed"
        }
    }
}

/// Counters of one queue.
public struct FrontendQueueStatistics: Sendable, Equatable {
    /// Frames given to the backend, and those of them that it answered with anything but okay.
    public var transmitted: UInt64 = 0
    /// Their bytes.
    public var transmittedBytes: UInt64 = 0
    /// Frames that the backend answered with an error.
    public var transmitErrors: UInt64 = 0
    /// Frames of the device's that the backend cannot take.
    public var transmitDropped: UInt64 = 0
    /// Frames from the backend that the device took, and those that it did not or that made no sense.
    public var received: UInt64 = 0
    /// Their bytes.
    public var receivedBytes: UInt64 = 0
    /// Frames thrown away.
    public var receiveDropped: UInt64 = 0
    /// Notifications sent to the other side.
    public var notificationsSent: UInt64 = 0
    /// Notifications taken from the other side.
    public var notificationsTaken: UInt64 = 0

    /// Nothing yet.
    public init() {}

    /// What two have counted together.
    public static func + (first: Self, second: Self) -> Self {
        var sum = first
        sum.transmitted &+= second.transmitted
        sum.transmittedBytes &+= second.transmittedBytes
        sum.transmitErrors &+= second.transmitErrors
        sum.transmitDropped &+= second.transmitDropped
        sum.received &+= second.received
        sum.receivedBytes &+= second.receivedBytes
        sum.receiveDropped &+= second.receiveDropped
        sum.notificationsSent &+= second.notificationsSent
        sum.notificationsTaken &+= second.notificationsTaken
        return sum
    }
}
