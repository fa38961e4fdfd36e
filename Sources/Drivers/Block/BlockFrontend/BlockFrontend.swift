// A disk as its frontend has it: queues for the data path, a control thread for the handshake. The control thread never
// touches a queue; it leaves connections in mailboxes.

import BlockProtocol
import DeviceFaults
import Hypervisor
import LinuxSystem
import RingFaults
import SharedMemory
import Synchronization
import XenBus

/// A block frontend (blkfront): one vbd of this domain.
public final class BlockFrontend<H: Hypervisor>: Sendable {
    /// The device's number, such as 51712 for xvda.
    public let device: UInt32
    let hypervisor: H
    let options: BlockFrontendOptions
    let status: Mutex<Status>
    let changed: WakePipe
    let follower: FrontendFollower
    private let control = Mutex<WorkerThread?>(nil)
    private let isClosed = Atomic<Bool>(false)
    /// What this end does wrong on purpose; nil: nothing may be set.
    public let faults: FaultBook?
    let log: @Sendable (String) -> Void
    let ended: @Sendable (BlockFrontendError) -> Void

    /// What the control thread tells everybody else.
    struct Status: ~Copyable {
        var phase = FrontendPhase.detached
        var properties: BlockProperties?
        var failure: BlockFrontendError?
        /// Made when a backend is met first, taken by their owners.
        var mailboxes: [QueueMailbox] = []
        var blueprints: [QueueBlueprint?] = []
        /// Queues that the backend takes; the first of `mailboxes`.
        var servedQueues = 0
        var connections = 0
        /// A queue found the backend broken; the control thread closes the device for good.
        var broken: BlockFrontendError?
    }

    /// A frontend for device `device` of the hypervisor's domain.
    /// - Parameters:
    ///   - log: gets one line for each change of the connection.
    ///   - ended: is told, once and on a thread of the frontend's, that there is nothing more to come, and why;
    ///     requests that were under way
    ///     have been given the same reason by then.
    public init(
        hypervisor: H, device: UInt32, options: BlockFrontendOptions = BlockFrontendOptions(),
        log: @escaping @Sendable (String) -> Void = { _ in }, ended: @escaping @Sendable (BlockFrontendError) -> Void = { _ in }
    ) throws(BlockFrontendError) {
        self.hypervisor = hypervisor
        self.device = device
        self.options = options
        faults = options.takesFaults ? FaultBook(.block, .front) : nil
        self.log = log
        self.ended = ended
        status = Mutex(Status())
        follower = FrontendFollower(
            path: FrontendPath(domain: hypervisor.domain, kind: .block, number: device), time: hypervisor.time)
        do { changed = try WakePipe() } catch { throw .negotiation("pipe: \(error)") }
        faults?.watch(self) { [weak self] in self?.tellFaults() }
    }

    /// The disk as last published.
    public var properties: BlockProperties? { status.withLock { $0.properties } }
    /// Connections made since the start: 1 after the first, one more after each return of a backend.
    public var connectionCount: Int { status.withLock { $0.connections } }
    /// Queues, known once connected.
    public var queueCount: Int { status.withLock { $0.mailboxes.count } }
    /// Queues that the backend of this moment takes, from the first on; the others are displaced.
    public var servedQueueCount: Int { status.withLock { $0.servedQueues } }
    /// `vbd 51712: live, 2 queues, 1 connections`.
    public var description: String {
        status.withLock { "vbd \(device): \($0.phase), \($0.mailboxes.count) queues, \($0.connections) connections" }
    }

    /// Starts the control thread and waits until the disk is there.
    public func connect(timeoutMilliseconds: Int32 = 10_000) throws(BlockFrontendError) {
        do throws(Errno) {
            let thread = try WorkerThread(name: "vbd-\(device)") { [self] in
                follower.run(VbdDriver(self)) { hypervisor.attemptStore() }
            }
            control.withLock { $0 = thread }
        } catch { throw .negotiation("thread: \(error)") }
        let isLive = try changed.wait(milliseconds: timeoutMilliseconds, hypervisor.time) { () throws(BlockFrontendError) in
            let (failure, live) = status.withLock { ($0.failure, $0.phase == .live) }
            if let failure { throw failure }
            return live
        }
        if !isLive {
            throw .timedOut(
                "vbd \(device): no backend connected within \(timeoutMilliseconds) ms; is it attached, and a backend running?")
        }
    }

    /// In the place of `connect`, for whoever has no thread for it: the control thread's work, turn by turn.
    package func begin() -> SteppedBlockFrontend<H> { SteppedBlockFrontend(self) }

    /// Hands out queue `index`; each once. Call after `connect`.
    public func takeQueue(_ index: Int) throws(BlockFrontendError) -> sending BlockQueue {
        let found = status.withLock { status -> (QueueBlueprint, BlockProperties)? in
            guard status.blueprints.indices.contains(index), let blueprint = status.blueprints[index],
                let properties = status.properties
            else { return nil }
            status.blueprints[index] = nil
            return (blueprint, properties)
        }
        guard let (blueprint, properties) = found else {
            throw .badRequest("queue \(index) is not there, or was taken before")
        }
        do throws(Errno) {
            return try BlockQueue(blueprint, depth: options.depth, properties: properties, time: hypervisor.time)
        } catch { throw .negotiation("memory: \(error)") }
    }

    /// Begins anew after the domain was suspended or moved: the rings and grants that the backend knew mean nothing any
    /// more. What is in flight is asked again on the new rings; callers see a pause.
    public func resume() { follower.restart() }

    /// Somebody uses the disk from now on, until `endUse`: a toolstack that takes it away without force is refused;
    /// from any thread.
    public func beginUse() { follower.beginUse() }

    /// Undoes one `beginUse`; from any thread.
    public func endUse() { follower.endUse() }

    /// Has the queues there are look at `faults`.
    func tellFaults() {
        guard let faults else { return }
        for mailbox in status.withLock({ $0.mailboxes }) { mailbox.post(.spoilt(faults, .requests(options.abi.layout))) }
    }

    /// A queue's owner found the backend broken.
    func queueFailed(_ error: BlockFrontendError) {
        status.withLock { $0.broken = error }
        // The follower says itself who broke what.
        if case .backendBroken(let what) = error { follower.quarantine(what) } else { follower.quarantine("\(error)") }
    }

    /// Closes the device in the proper order (5, 6) and ends the control thread. Operations in flight end as lost, and
    /// what has not been taken is given back.
    public func close() {
        guard !isClosed.exchange(true, ordering: .sequentiallyConsistent) else { return }
        follower.stop()
        control.withLock { $0.take() }?.join()
        // Of queues that nobody has taken, nothing stays granted.
        status.withLock { $0.blueprints = [] }
    }
}
