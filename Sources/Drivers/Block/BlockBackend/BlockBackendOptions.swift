// What a block backend offers. Each feature can be switched off, for tests and for frontends that get one wrong.

import BlockDevices
import BlockProtocol
import DMA
import Reactor
import XenBus

/// A block backend's offer and limits.
public struct BlockBackendOptions: Sendable {
    /// Queues that a frontend may ask for.
    public var queues: UInt32 = 4
    /// Largest order of ring pages, 0 to 5.
    public var ringPageOrder: UInt32 = 5
    /// Segments that an indirect request may have, up to 4096; 0: no indirect requests.
    public var indirectSegments: UInt32 = 256
    /// Whether grants may stay mapped.
    public var persistentGrants = true
    /// The most grants that one queue keeps mapped; the least recently used goes first. Linux's default is 1056; ours
    /// holds what 128 requests of 128 KiB name.
    public var persistentGrantLimit = 4352
    /// Whether flush is offered where the disk has it.
    public var flush = true
    /// Whether barriers are offered. Only ever to a frontend with one queue: a barrier orders the whole disk
    /// (protocol-rules.md 12).
    public var barrier = true
    /// Whether discard is offered where the disk has it.
    public var discard = true
    /// What a frontend without a `protocol` node speaks: x86_32, as Linux, QEMU and tapdisk take it.
    public var abiWhenMissing: BlockABI = .assumedWhenMissing
    /// How a reactor waits. A frontend's answer to one request, the next one, comes sooner than a thread can be woken;
    /// an idle backend still sleeps.
    public var polling: PollingPolicy = .onHost
    /// Reactor threads; queues are dealt out to them in turn.
    public var reactors = 1
    /// Bypasses the page cache even for disks that do not say `direct-io-safe`.
    public var direct = false
    /// How long a disk whose server is not there is waited for, when it is attached and later, where its own
    /// configuration does not say; 0: not at all.
    public var reconnectDelayMilliseconds = NBDReconnect().delayMilliseconds
    /// How disks reach the frontends' pages. The default is the process's own bus map, without limits.
    public var dma = DMAOptions()
    /// The backend directory that is served.
    public var kind: DeviceKind = .block
    /// Whether a device with a `script` node waits until its hot-plug script has run, as xl runs it in dom0 and `xl
    /// devd` in a driver domain. Else the script is nobody's, and `params` is opened here.
    public var waitsForScript = false
    /// Whether a device's directory is removed once it is closed for good. In dom0 the toolstack does that; for a
    /// driver domain it waits until somebody there has (`xl devd`, or this backend in its place).
    public var removesDirectories = false
    /// A directory in memory in which requests are written down as they are taken, so that a successor of this process
    /// goes on with the same rings and no frontend notices; nil: a successor asks every frontend to close and connect
    /// again, which Linux's cannot.
    public var journalDirectory: String?
    /// Gets lines of what is not wrong: that a disk was connected or has another size. nil: the log has them, too.
    public var notes: (@Sendable (String) -> Void)?
    /// Whether what keeps a device from its first connection stands in its error node only, for whoever attached it to
    /// tell: else it is in the log, too.
    public var leavesAttachErrors = false
    /// Whether disks may be made to go wrong on purpose: only where no guest has data to lose.
    public var takesFaults = false
    /// How often disks are asked for their size, for online resize; 0: never.
    public var resizePollMilliseconds: Int32 = 1000

    /// The defaults.
    public init() {}

    var offer: BlockOffer {
        BlockOffer(indirectSegments: indirectSegments, queues: queues, ringPageOrder: ringPageOrder)
    }
}
