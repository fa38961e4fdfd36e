// What a network backend offers. Each feature can be switched off, for tests and for frontends that get one wrong.

import Reactor
import XenBus

/// A network backend's offer and limits.
public struct NetworkBackendOptions: Sendable {
    /// What it takes from frontends; also what it gives them at most.
    public var features: NetworkFeatures = .all
    /// Queues that a frontend may ask for.
    public var queues: UInt32 = 4
    /// Whether each direction may have a doorbell of its own.
    public var splitChannels = true
    /// Whether there is a control ring.
    public var controlRing = true
    /// Pages that one queue keeps mapped for a frontend at most (`XEN_NETIF_CTRL_TYPE_ADD_GREF_MAPPING`); 0: none.
    public var grantMappings = 1024
    /// Whether frontends can say which multicast addresses they want.
    public var multicastControl = true
    /// How long a packet may wait for the frontend to post pages, in milliseconds; after that the queue counts as stalled and packets are
    /// dropped until it has pages again (Linux: 10 s).
    public var drainMilliseconds: UInt64 = 10_000
    /// The same for a frontend that does not ring when it has posted pages (Linux: 30 ms).
    public var quietDrainMilliseconds: UInt64 = 30
    /// How a reactor waits.
    public var polling: PollingPolicy = .adaptive(microseconds: 20)
    /// Reactor threads; interfaces are dealt out to them in turn.
    public var reactors = 1

    /// The defaults.
    public init() {}

    var offer: NetworkOffer {
        NetworkOffer(
            features: features, queues: queues, splitChannels: splitChannels, controlRing: controlRing,
            multicastControl: multicastControl)
    }
}
