// blkback: serves every vbd whose backend is this domain, hot-plugged ones too. One control thread (the caller's)
// follows the store; reactor threads move the data.

import BlockDevices
import BlockModel
import DeviceControl
import DeviceTrace
import DriverRuntime
import Glibc
import Hypervisor
import LinuxSystem
import Reactor
import Synchronization
import XenBus

/// One device, for status.
public struct BackendDeviceStatus: Sendable {
    /// Whose and which.
    public let device: DeviceID
    /// The disk's name; empty until it is open.
    public let disk: String
    /// One for each connected queue.
    public let queues: [BackendQueueStatistics]
    /// How long requests took since the connection began, on all queues.
    public let latencies: BlockLatencies
    /// What the disk failed since the connection began, one value for each operation and reason.
    public let failures: [DiskFailure]
}

/// The block backend of one domain.
public final class BlockBackendService<H: Hypervisor>: Sendable {
    let hypervisor: H
    let options: BlockBackendOptions
    private let openDisk: DiskOpener
    private let log: @Sendable (String) -> Void
    private let ready: @Sendable () -> Void
    private let exporter: (any DeviceExporter<any BlockDevice>)?
    let server = DeviceServer<DiskDriver>()
    /// Whether the devices that were there have been looked at.
    private let isReady = Atomic<Bool>(false)
    private let devices = Mutex<[ServedDisk]>([])
    private let traces = DiskTraces()
    private let running = Mutex<[Reactor]>([])

    /// A backend in the hypervisor's domain. Its disks can be reached through `exporter`, too. `log` gets one line for
    /// each thing worth knowing; `ready` is called once, when the devices that were there have been looked at.
    public init(
        hypervisor: H, options: BlockBackendOptions = BlockBackendOptions(), openDisk: @escaping DiskOpener,
        exporter: (any DeviceExporter<any BlockDevice>)? = nil,
        log: @escaping @Sendable (String) -> Void = { _ in }, ready: @escaping @Sendable () -> Void = {}
    ) {
        self.hypervisor = hypervisor
        self.options = options
        self.openDisk = openDisk
        self.exporter = exporter
        self.log = log
        self.ready = ready
    }

    /// Ends `run`: devices are disconnected, what is in work ends first.
    public func stop() { server.stop() }

    /// Ends `run` as a kill ends a process, for tests: nothing more is taken, done, answered or written to the store.
    func abandon() { server.abandon() }

    /// Every device, with its counters as of now.
    public var status: [BackendDeviceStatus] {
        devices.withLock { $0 }.map {
            BackendDeviceStatus(
                device: $0.id, disk: $0.name, queues: $0.queues.map(\.queue.statistics),
                latencies: $0.queues.reduce(BlockLatencies()) { $0 + $1.queue.latencies },
                failures: DiskFailure.sums(of: $0.queues.map(\.queue.failures)))
        }
    }

    /// The threads that serve disks now.
    public var reactors: [Reactor] { running.withLock { $0 } }

    /// For a tracing service.
    public var traceSubjects: any TraceSubjects { traces.registry }

    /// Every device as whoever looks after it sees it.
    /// - Parameter counters: a device's, which whoever shows them knows by name.
    public func controlled(counters: (DeviceID) -> DeviceCounters) -> [any ControlledDevice] {
        devices.withLock { $0 }.map { served in
            ControlledVbd(served: served, counters: counters(served.id), time: hypervisor.time) { [server] in
                server.post(served.id, .sizeWanted)
            }
        }
    }

    /// Serves until `stop` or until the store is gone.
    public func run() throws(BackendError) {
        let runtime = try makeRuntime(hasThreads: true)
        // Queues that nobody serves keep no rings mapped.
        running.withLock { $0 = runtime.reactors }
        defer {
            running.withLock { $0 = [] }
            runtime.stop()
            publish([], runtime)
        }
        var turn = 0
        do throws(XenbusError) {
            try server.run(
                runtime.store, domain: hypervisor.domain, kind: options.kind, period: options.resizePollMilliseconds
            ) {
                follower($0, runtime, &turn)
            } publish: {
                publish($0, runtime)
            }
        } catch { throw .store(error) }
    }

    /// In the place of `run`, for whoever has no threads for it: all their work, turn by turn.
    package func begin() throws(BackendError) -> SteppedBlockBackend<H> { try SteppedBlockBackend(self) }

    func makeRuntime(hasThreads: Bool) throws(BackendError) -> BackendRuntime {
        try BackendRuntime(
            hypervisor, name: "blkback", kind: options.kind, reactors: options.reactors, polling: options.polling,
            journalDirectory: options.journalDirectory, hasThreads: hasThreads)
    }

    /// Lets others see the devices there are.
    func publish(_ followers: [BackendFollower<DiskDriver>], _ runtime: BackendRuntime) {
        let list = followers.map {
            ServedDisk(
                id: $0.path.device, name: $0.driver.disk?.name ?? "", disk: $0.driver.disk, queues: $0.driver.queues,
                faults: $0.driver.faults)
        }
        devices.withLock { $0 = list }
        traces.update(list)
        if isReady.exchange(true, ordering: .relaxed) { return }
        runtime.removeStaleJournals(but: Set(list.map(\.id)), log: options.notes ?? log)
        ready()
    }

    /// Each device begins at the next reactor, so that one-queue devices spread, too.
    func follower(_ path: BackendPath, _ runtime: BackendRuntime, _ turn: inout Int) -> BackendFollower<DiskDriver> {
        defer { turn += 1 }
        return follower(path, runtime.reactors, from: turn, runtime.journals)
    }

    private func follower(
        _ path: BackendPath, _ reactors: [Reactor], from first: Int, _ journals: JournalDirectory?
    ) -> BackendFollower<DiskDriver> {
        var next = first
        let (server, id) = (server, path.device)
        return BackendFollower(
            path: path,
            driver: DiskDriver(
                path: path, hypervisor: hypervisor, options: options, journals: journals, openDisk: openDisk,
                exporter: exporter,
                nextReactor: {
                    defer { next += 1 }
                    return reactors[next % reactors.count]
                }, report: { server.post(id, $0) }, log: log),
            time: hypervisor.time, log: log)
    }
}
