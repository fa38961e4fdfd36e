// netback: serves every vif whose backend is this domain, hot-plugged ones too. One control thread (the caller's) follows the store;
// reactor threads move the frames.

import DriverSupport
import FrameTrace
import HostDevices
import Hypervisor
import LinuxSystem
import Reactor
import Synchronization
import XenBus
import XenStore
import XenWire

/// Why the service ended or did not start.
public enum NetworkBackendError: Error, Sendable, CustomStringConvertible {
    /// The store or the hypervisor is gone, or refused.
    case store(XenbusError)
    /// A thread or ring could not be made.
    case system(String)

    /// One line.
    public var description: String {
        switch self {
        case .store(let error): "\(error)"
        case .system(let text): text
        }
    }
}

/// One interface, for status.
public struct InterfaceStatus: Sendable {
    /// Whose and which.
    public let device: DeviceID
    /// The device's name; empty until it is open.
    public let name: String
    /// One for each connected queue.
    public let queues: [NetworkQueueStatistics]
}

/// The network backend of one domain.
public final class NetworkBackendService<H: Hypervisor>: Sendable {
    private let hypervisor: H
    private let options: NetworkBackendOptions
    private let openDevice: NetworkOpener
    private let log: @Sendable (String) -> Void
    private let ready: @Sendable () -> Void
    private let removeLeftovers: @Sendable (Set<DeviceID>) -> Void
    private let server = DeviceServer<InterfaceDriver>()
    private let engines = Mutex<[(DeviceID, String, InterfaceEngine?)]>([])
    private let traces = TraceDesk()

    /// A backend in the hypervisor's domain. `log` gets one line for each thing worth knowing; `ready` is called once, when the interfaces
    /// that were there have been looked at. Before that `removeLeftovers` is told which those are: whatever a predecessor made for others is
    /// nobody's any more.
    public init(
        hypervisor: H, options: NetworkBackendOptions = NetworkBackendOptions(), openDevice: @escaping NetworkOpener,
        removeLeftovers: @escaping @Sendable (Set<DeviceID>) -> Void = { _ in },
        log: @escaping @Sendable (String) -> Void = { _ in }, ready: @escaping @Sendable () -> Void = {}
    ) {
        self.hypervisor = hypervisor
        self.options = options
        self.openDevice = openDevice
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
        engines.withLock { $0 }.map { InterfaceStatus(device: $0.0, name: $0.1, queues: $0.2?.statistics ?? []) }
    }

    /// Serves until `stop` or until the store is gone.
    public func run() throws(NetworkBackendError) {
        let client: StoreClient
        do { client = try hypervisor.connectStore() } catch { throw .store(.store(.disconnected("\(error)"))) }
        var reactors: [Reactor] = []
        do throws(Errno) {
            for index in 0..<max(1, options.reactors) {
                reactors.append(try Reactor(name: "netback-\(index)", polling: options.polling))
            }
        } catch {
            client.close()
            throw .system("io_uring: \(error); is it allowed here (kernel.io_uring_disabled)?")
        }
        var journals: JournalDirectory?
        if let directory = options.journalDirectory {
            do throws(Errno) { journals = try JournalDirectory(directory, kind: options.kind) } catch {
                client.close()
                throw .system("\(directory): \(error.rawValue == 11 ? "another backend serves these interfaces" : "\(error)")")
            }
        }
        defer { for reactor in reactors { reactor.stop() } }
        do throws(ReactorError) { for reactor in reactors { try reactor.start() } } catch {
            client.close()
            throw .system("\(error)")
        }
        var turn = 0
        var isReady = false
        let (server, traces, log, kept) = (server, traces, log, journals)
        do throws(XenbusError) {
            try server.run(client, domain: hypervisor.domain, kind: options.kind, period: 0) { path in
                turn += 1
                let id = path.device
                return BackendFollower(
                    path: path,
                    driver: InterfaceDriver(
                        path: path, hypervisor: hypervisor, options: options, journals: kept, openDevice: openDevice,
                        reactor: reactors[(turn - 1) % reactors.count], report: { server.post(id, $0) }, traces: traces, log: log),
                    log: log)
            } publish: { followers in
                let list = followers.map { ($0.path.device, $0.driver.device?.name ?? "", $0.driver.engine) }
                engines.withLock { $0 = list }
                if !isReady {
                    isReady = true
                    // What was left for interfaces that went while no backend was there.
                    let living = Set(list.map(\.0))
                    removeLeftovers(living)
                    let count = journals?.removeStale(of: options.kind, but: living) ?? 0
                    if count > 0, let journals {
                        log("\(journals.path): what was left for \(count) interfaces that are no more is removed")
                    }
                    ready()
                }
            }
        } catch { throw .store(error) }
    }
}
