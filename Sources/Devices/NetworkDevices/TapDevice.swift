// A tap: an Ethernet interface of the host whose wire is this process. Made on demand and gone with its last
// descriptor, so that a killed process leaves nothing; one that somebody else keeps is joined and stays.

import CLinux
import DMA
import LinuxSystem
import Packets
import Synchronization

/// Why a tap could not be had.
public struct TapError: Error, Equatable, Sendable, CustomStringConvertible {
    /// The interface's name.
    public let name: String
    /// What was being done to it.
    public let doing: String
    /// The system's reason.
    public let reason: Errno
    /// Who has it, where that is the reason.
    public var holder: ClaimHolder?

    /// `tap vif1.0: cannot open it: Operation not permitted`.
    public var description: String {
        holder.map { "tap \(name): in use by \($0)" } ?? "tap \(name): cannot \(doing): \(reason)"
    }
}

/// What a process has a tap for. Each is one process's at a time.
public enum TapRole: String, Sendable {
    /// To move frames.
    case driver
    /// To keep it while drivers come and go.
    case keeper
}

/// A tap of this host, wherever it is moved or renamed to.
public final class TapDevice: NetworkDevice {
    /// What it is called in messages.
    public let name: String
    /// Keeps the interface, its addresses and its place in a bridge while no queue is open. A detached queue: the
    /// kernel spreads traffic over attached ones only. Of a tap with a single queue it is that.
    let keeper: Descriptor
    /// It was made with room for one queue.
    let isSingle: Bool
    let state = Mutex(State())

    struct State {
        /// Until it is gone, or this process has no more to do with it.
        var claim: NamespaceClaim?
        var isGone = false
        var watcher: (@Sendable () -> Void)?
        /// Frames of more bytes of payload have no way.
        var mostMTU = Int.max
        /// What it was before it was lowered, and to what.
        var lowered: MTUChange?
        /// The only one that there can be is open.
        var hasQueue = false
        /// Queues that are open; more than one only where there can be several.
        var queues: [Descriptor] = []
        /// Queues that a predecessor had open, for those that are opened next.
        var adopted: [Descriptor] = []
        /// The only queue is a predecessor's: what has come meanwhile is not old.
        var isHandedOn = false
    }

    /// Opens `name`, which is made if there is none.
    /// - Parameters:
    ///   - outlives: whether the interface stays when this process ends, with its addresses, routes and place in a
    ///     bridge, until `retire` is called: for a backend whose successor goes on.
    ///   - role: what for. One that another process has in this role, or that another program has open, is refused:
    ///     each would get a part of the other's frames.
    public convenience init(name: String, outlives: Bool = false, role: TapRole = .driver) throws(TapError) {
        try self.init(TapAddress(name: name), outlives: outlives, role: role)
    }

    /// The same for one that somebody may have renamed and moved.
    package init(_ address: TapAddress, outlives: Bool = false, role: TapRole = .driver) throws(TapError) {
        let name = address.name
        self.name = name
        // Whoever keeps it said so where it was made.
        let isKept = address.isKept
        let opened: OpenedTap
        if let place = address.namespace {
            let outcome: Result<OpenedTap, TapError>
            do throws(NamespaceError) {
                outcome = try place.run { OpenedTap.open(name, role, isKept: isKept, outlives: outlives) }
            } catch {
                throw TapError(
                    name: name, doing: "enter network namespace \(place.number), where it was moved to", reason: error.reason)
            }
            opened = try outcome.get()
        } else {
            opened = try OpenedTap.open(name, role, isKept: isKept, outlives: outlives).get()
        }
        keeper = opened.keeper
        isSingle = opened.isSingle
        state.withLock { $0.claim = opened.claim }
    }

    /// Goes on with a tap that a predecessor of this process had: its place, its carrier and the frames in its queues
    /// are as they were.
    /// - Parameter lifeline: see `NetworkDevice`.
    package init(name: String, resuming lifeline: [Descriptor]) throws(TapError) {
        guard let keeper = lifeline.first else {
            throw TapError(name: name, doing: "go on with it: nothing of it is left", reason: .noSuchDevice, holder: nil)
        }
        let opened = try OpenedTap.adopt(keeper, .driver).get()
        self.name = name
        self.keeper = opened.keeper
        isSingle = opened.isSingle
        state.withLock { state in
            state.claim = opened.claim
            state.adopted = Array(lifeline.dropFirst())
            state.isHandedOn = true
        }
    }
}
