// What a network backend offers. Each feature can be switched off, for tests and for frontends that get one wrong.

import DMA
import NetworkProtocol
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
    /// How long a packet may wait for the frontend to post pages, in milliseconds; after that the queue counts as
    /// stalled and packets are dropped until it has pages again (Linux: 10 s).
    public var drainMilliseconds: UInt64 = 10_000
    /// The same for a frontend that does not ring when it has posted pages (Linux: 30 ms).
    public var quietDrainMilliseconds: UInt64 = 30
    /// How a reactor waits.
    public var polling: PollingPolicy = .onHost
    /// Reactor threads; the queues of an interface are dealt out to them in turn, each interface beginning at the next.
    public var reactors = 1
    /// How interfaces' devices reach the frontends' pages and this process's own. The default is the process's own bus
    /// map, without limits.
    public var dma = DMAOptions()

    /// The backend directory that is served.
    public var kind: DeviceKind = .network
    /// Whether an interface with a `script` node waits until its hot-plug script has run, as xl runs it in dom0 and `xl
    /// devd` in a driver domain. Else the script is nobody's, and the interface joins its `bridge` here.
    public var waitsForScript = false
    /// Whether an interface's directory is removed once it is closed for good. In dom0 the toolstack does that; for a
    /// driver domain it waits until somebody there has (`xl devd`, or this backend in its place).
    public var removesDirectories = false
    /// A directory in memory in which slots are written down as they are taken, so that a successor of this process
    /// goes on with the same rings and no frontend notices; nil: a successor asks every frontend to close and connect
    /// again, which Linux's cannot.
    public var journalDirectory: String?
    /// Gets lines of what is not wrong: that an interface was connected or has another rate. nil: the log has them,
    /// too.
    public var notes: (@Sendable (String) -> Void)?
    /// Whether interfaces may be made to go wrong on purpose: only where no guest has data to lose.
    public var takesFaults = false
    /// Whether what keeps a device from its first connection stands in its error node only, for whoever attached it to
    /// tell: else it is in the log, too.
    public var leavesAttachErrors = false

    /// The defaults.
    public init() {}

    var offer: NetworkOffer {
        NetworkOffer(
            features: features, queues: queues, splitChannels: splitChannels, controlRing: controlRing,
            multicastControl: multicastControl)
    }
}
