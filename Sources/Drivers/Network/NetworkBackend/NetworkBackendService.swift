// netback: serves every vif whose backend is this domain, hot-plugged ones too. One control thread (the caller's)
// follows the store; reactor threads move the frames.

import DeviceControl
import DeviceTrace
import DriverRuntime
import Hypervisor
import LinuxSystem
import NetworkDevices
import NetworkProtocol
import Reactor
import Synchronization
import XenBus

/// One interface, for status.
public struct InterfaceStatus: Sendable {
    /// Whose and which.
    public let device: DeviceID
    /// The device's name; empty until it is open.
    public let name: String
    /// One for each connected queue.
    public let queues: [NetworkQueueStatistics]
    /// What was dropped since its frontend connected, by reason.
    public let drops: InterfaceDrops
}

/// The network backend of one domain.
public final class NetworkBackendService<H: Hypervisor>: Sendable {
    private let hypervisor: H
    private let options: NetworkBackendOptions
    private let random: any RandomSource
    private let openDevice: NetworkOpener
    private let log: @Sendable (String) -> Void
    private let ready: @Sendable () -> Void
    private let removeLeftovers: @Sendable (Set<DeviceID>) -> Void
    private let exporter: (any DeviceExporter<any NetworkDevice>)?
    private let server = DeviceServer<InterfaceDriver>()
    private let running = Mutex<[Reactor]>([])
    private let engines = Mutex<[ControlledVif.Served]>([])
    private let traces = TraceRegistry(of: .interface)

    /// A backend in the hypervisor's domain. Its interfaces can be reached through `exporter`, too. `log` gets one line
    /// for each thing worth knowing; `ready` is called once, when the interfaces that were there have been looked at.
    /// Before that `removeLeftovers` is told which those are: whatever a predecessor made for others is nobody's any
    /// more. `random` makes the tables of what frontends choose hard to fill on purpose.
    public init(
        hypervisor: H, options: NetworkBackendOptions = NetworkBackendOptions(), random: some RandomSource,
        openDevice: @escaping NetworkOpener, exporter: (any DeviceExporter<any NetworkDevice>)? = nil,
        removeLeftovers: @escaping @Sendable (Set<DeviceID>) -> Void = { _ in },
        log: @escaping @Sendable (String) -> Void = { _ in }, ready: @escaping @Sendable () -> Void = {}
    ) {
        self.hypervisor = hypervisor
        self.options = options
        self.random = random
        self.openDevice = openDevice
        self.exporter = exporter
        self.log = log
        self.ready = ready
        self.removeLeftovers = removeLeftovers
    }

    /// Ends `run`: interfaces are disconnected, or left to a successor where there are journals.
    public func stop() { server.stop() }

    /// Ends `run` as a kill ends a process, for tests: nothing more is taken, sent, answered or written to the store.
    func abandon() { server.abandon() }

    /// The interfaces, for a tracing service.
    public var traceSubjects: any TraceSubjects { traces }

    /// Every interface, with its counters as of now.
    public var status: [InterfaceStatus] {
        engines.withLock { $0 }.map {
            InterfaceStatus(
                device: $0.id, name: $0.name, queues: $0.engine?.statistics ?? [],
                drops: $0.engine?.drops ?? InterfaceDrops())
        }
    }

    /// The threads that serve interfaces now.
    public var reactors: [Reactor] { running.withLock { $0 } }

    /// Every interface as whoever looks after it sees it.
    /// - Parameter counters: a device's, which whoever shows them knows by name.
    public func controlled(counters: (DeviceID) -> DeviceCounters) -> [any ControlledDevice] {
        engines.withLock { $0 }.map { ControlledVif(served: $0, counters: counters($0.id)) }
    }

    /// Serves until `stop` or until the store is gone.
    public func run() throws(BackendError) {
        let runtime = try BackendRuntime(
            hypervisor, name: "netback", kind: options.kind, reactors: options.reactors, polling: options.polling,
            journalDirectory: options.journalDirectory)
        running.withLock { $0 = runtime.reactors }
        // Queues that nobody serves keep no rings mapped.
        defer {
            running.withLock { $0 = [] }
            runtime.stop()
            engines.withLock { $0 = [] }
        }
        let environment = InterfaceEnvironment(
            hypervisor: hypervisor, options: options, journals: runtime.journals, openDevice: openDevice, traces: traces,
            random: random, log: log, exporter: exporter)
        var count = 0
        var isReady = false
        do throws(XenbusError) {
            try server.run(runtime.store, domain: hypervisor.domain, kind: options.kind, period: 0) { path in
                defer { count += 1 }
                return follower(path, environment, ReactorAssignment(runtime.reactors, interface: count))
            } publish: { followers in
                let list = followers.map {
                    ControlledVif.Served(
                        id: $0.path.device, name: $0.driver.device?.name ?? "", device: $0.driver.device,
                        address: $0.driver.settings.map { "\($0.address)" },
                        engine: $0.driver.engine, faults: $0.driver.faults)
                }
                engines.withLock { $0 = list }
                if !isReady {
                    let living = Set(list.map(\.id))
                    removeLeftovers(living)
                    runtime.removeStaleJournals(but: living, log: options.notes ?? log)
                    ready()
                }
                isReady = true
            }
        } catch { throw .store(error) }
    }

    private func follower(
        _ path: BackendPath, _ environment: InterfaceEnvironment, _ reactors: ReactorAssignment
    ) -> BackendFollower<InterfaceDriver> {
        let (server, id) = (server, path.device)
        return BackendFollower(
            path: path,
            driver: InterfaceDriver(path, environment, reactors: reactors) { server.post(id, $0) }, time: hypervisor.time, log: log)
    }
}
