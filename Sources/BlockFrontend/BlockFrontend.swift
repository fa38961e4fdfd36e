// A disk as its frontend has it: queues for the data path, a control thread for the handshake. The control thread never touches a
// queue; it leaves connections in mailboxes.

import Hypervisor
import LinuxSystem
import SharedMemory
import Synchronization
import XenBus
import XenStore
import XenWire

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
    let log: @Sendable (String) -> Void

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

    /// What a queue is made from, once, by whoever takes it.
    struct QueueBlueprint {
        let mailbox: QueueMailbox
        let pages: any OfferedPages
        let indirect: any OfferedPages
        let indirectPagesEach: Int
        let requestIDs: Int
    }

    /// A frontend for device `device` of the hypervisor's domain; `log` gets one line for each change of the connection.
    public init(
        hypervisor: H, device: UInt32, options: BlockFrontendOptions = BlockFrontendOptions(),
        log: @escaping @Sendable (String) -> Void = { _ in }
    ) throws(BlockFrontendError) {
        self.hypervisor = hypervisor
        self.device = device
        self.options = options
        self.log = log
        status = Mutex(Status())
        follower = FrontendFollower(path: FrontendPath(domain: hypervisor.domain, kind: .block, number: device))
        do { changed = try WakePipe() } catch { throw .negotiation("pipe: \(error)") }
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
                follower.run(VbdDriver(self)) { try? hypervisor.connectStore() }
            }
            control.withLock { $0 = thread }
        } catch { throw .negotiation("thread: \(error)") }
        let deadline = monotonicMilliseconds() + Int64(timeoutMilliseconds)
        while true {
            let (failure, live) = status.withLock { ($0.failure, $0.phase == .live) }
            if let failure { throw failure }
            if live { return }
            let left = deadline - monotonicMilliseconds()
            guard left > 0 else {
                throw .timedOut(
                    "vbd \(device): no backend connected within \(timeoutMilliseconds) ms; is it attached, and a backend running?")
            }
            _ = try? waitReadable(changed.reader.rawValue, milliseconds: Int32(min(left, 1000)))
            drainPipe(changed.reader)
        }
    }

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
            return try BlockQueue(
                mailbox: blueprint.mailbox, pages: blueprint.pages, indirect: blueprint.indirect,
                indirectPagesEach: blueprint.indirectPagesEach, depth: options.depth, requestIDs: blueprint.requestIDs,
                properties: properties)
        } catch { throw .negotiation("memory: \(error)") }
    }

    /// Begins anew after the domain was suspended or moved: the rings and grants that the backend knew mean nothing any more. What is
    /// in flight is asked again on the new rings; callers see a pause.
    public func resume() { follower.restart() }

    /// A queue's owner found the backend broken.
    func queueFailed(_ error: BlockFrontendError) {
        status.withLock { $0.broken = error }
        follower.quarantine("\(error)")
    }

    /// Closes the device in the proper order (5, 6) and ends the control thread. Operations in flight end as lost.
    public func close() {
        guard !isClosed.exchange(true, ordering: .sequentiallyConsistent) else { return }
        follower.stop()
        control.withLock { $0.take() }?.join()
    }
}
