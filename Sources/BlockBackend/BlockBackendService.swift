// blkback: serves every vbd whose backend is this domain, hot-plugged ones too. One control thread (the caller's) follows the store;
// reactor threads move the data.

import HostDevices
import Hypervisor
import LinuxSystem
import Reactor
import Synchronization
import XenBus
import XenStore
import XenWire

/// Why the service ended or did not start.
public enum BlockBackendError: Error, Sendable, CustomStringConvertible {
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

/// One device, for status.
public struct BackendDeviceStatus: Sendable {
    /// Whose and which.
    public let device: DeviceID
    /// The disk's name; empty until it is open.
    public let disk: String
    /// One for each connected queue.
    public let queues: [BackendQueueStatistics]
}

/// The block backend of one domain.
public final class BlockBackendService<H: Hypervisor>: Sendable {
    private let hypervisor: H
    private let options: BlockBackendOptions
    private let openDisk: DiskOpener
    private let log: @Sendable (String) -> Void
    private let ready: @Sendable () -> Void
    private let reports = Mutex<[(DeviceID, QueueReport)]>([])
    private let store = Mutex<StoreClient?>(nil)
    private let stopping = Atomic<Bool>(false)
    private let abandoning = Atomic<Bool>(false)
    private let devices = Mutex<[BackendDeviceStatus]>([])

    /// A backend in the hypervisor's domain. `log` gets one line for each thing worth knowing; `ready` is called once, when the devices
    /// that were there have been looked at.
    public init(
        hypervisor: H, options: BlockBackendOptions = BlockBackendOptions(), openDisk: @escaping DiskOpener,
        log: @escaping @Sendable (String) -> Void = { _ in }, ready: @escaping @Sendable () -> Void = {}
    ) {
        self.hypervisor = hypervisor
        self.options = options
        self.openDisk = openDisk
        self.log = log
        self.ready = ready
    }

    /// Ends `run`: devices are disconnected, what is in work ends first.
    public func stop() {
        stopping.store(true, ordering: .relaxed)
        store.withLock { $0?.wake() }
    }

    /// Ends `run` as a kill ends a process, for tests: nothing more is taken, done, answered or written to the store.
    func abandon() {
        abandoning.store(true, ordering: .relaxed)
        stop()
    }

    /// Every device, as of the last change or second.
    public var status: [BackendDeviceStatus] { devices.withLock { $0 } }

    /// Serves until `stop` or until the store is gone.
    public func run() throws(BlockBackendError) {
        let client: StoreClient
        do { client = try hypervisor.connectStore() } catch { throw .store(.store(.disconnected("\(error)"))) }
        store.withLock { $0 = client }
        defer {
            store.withLock { $0 = nil }
            client.close()
        }
        var reactors: [Reactor] = []
        do throws(Errno) {
            for index in 0..<max(1, options.reactors) {
                reactors.append(try Reactor(name: "blkback-\(index)", polling: options.polling))
            }
        } catch { throw .system("io_uring: \(error); is it allowed here (kernel.io_uring_disabled)?") }
        var journals: JournalDirectory?
        if let directory = options.journalDirectory {
            do throws(Errno) { journals = try JournalDirectory(directory, kind: options.kind) } catch {
                let reason = error.rawValue == 11 ? "another backend serves these disks" : "\(error)"
                throw .system("\(directory): \(reason)")
            }
        }
        for reactor in reactors { reactor.start() }
        defer { for reactor in reactors { reactor.stop() } }
        do throws(XenbusError) {
            var control = BackendControl(self, client, reactors, journals)
            try control.run()
        } catch { throw .store(error) }
    }

    /// The control thread's state.
    private struct BackendControl {
        let service: BlockBackendService
        let client: StoreClient
        let reactors: [Reactor]
        let journals: JournalDirectory?
        var turn = 0
        var devices: [DeviceID: BackendDevice] = [:]
        let root: String

        init(_ service: BlockBackendService, _ client: StoreClient, _ reactors: [Reactor], _ journals: JournalDirectory?) {
            self.journals = journals
            self.service = service
            self.client = client
            self.reactors = reactors
            root = BackendPath.root(service.hypervisor.domain, service.options.kind)
        }

        mutating func run() throws(XenbusError) {
            do throws(StoreError) {
                try client.watch(root, token: "devices")
                try client.watch("@releaseDomain", token: "release")
            } catch { throw .store(error) }
            try scan()
            if let journals {
                let count = journals.removeStale(of: service.options.kind) { devices[$0] == nil }
                if count > 0 { service.log("\(journals.path): what was left for \(count) devices that are no more is removed") }
            }
            service.ready()
            var lastPoll = monotonicMilliseconds()
            while !service.stopping.load(ordering: .relaxed) {
                let event: WatchEvent?
                let period = service.options.resizePollMilliseconds
                do throws(StoreError) { event = try client.nextEvent(milliseconds: nextTimeout(period)) } catch {
                    throw .store(error)
                }
                if let event { try handle(event) }
                try takeReports()
                for (id, device) in devices where device.takeRetry() { try follow(id) }
                if period > 0, monotonicMilliseconds() - lastPoll >= Int64(period) {
                    lastPoll = monotonicMilliseconds()
                    for device in devices.values { try device.pollSize(client) }
                }
                publishStatus()
            }
            if !service.abandoning.load(ordering: .relaxed) { try shutDown() }
        }

        /// How long to wait for an event: until a disk is to be tried or sizes are to be polled again.
        private func nextTimeout(_ period: Int32) -> Int32 {
            let now = monotonicMilliseconds()
            let due = devices.values.compactMap(\.followAgainAt).min().map { Int32(clamping: max(1, $0 - now)) }
            return period > 0 ? min(period, due ?? period) : due ?? -1
        }

        private mutating func handle(_ event: WatchEvent) throws(XenbusError) {
            switch event.token {
            case "devices":
                guard
                    let id = BackendPath.device(
                        of: event.path, backend: service.hypervisor.domain, kind: service.options.kind)
                else { return try scan() }
                let directory = "\(root)/\(id)"
                let rest = event.path.dropFirst(directory.count)
                // Our own keys come back as events, too; only these call for a look.
                if othersNodes.contains(rest) { try follow(id) }
            case "release":
                for (id, device) in devices {
                    guard let alive = try? client.isIntroduced(id.frontend), !alive else { continue }
                    device.isOrphan = true
                    try follow(id)
                }
            default:
                let parts = event.token.split(separator: " ")
                if parts.count == 2,
                    let id = BackendPath.device(
                        of: "\(root)/\(parts[1])", backend: service.hypervisor.domain, kind: service.options.kind)
                {
                    try follow(id)
                }
            }
        }

        /// Looks at every directory there is and at every device known.
        private mutating func scan() throws(XenbusError) {
            var seen = Set(devices.keys)
            for domain in try client.names(root) {
                for number in try client.names("\(root)/\(domain)") {
                    if let id = BackendPath.device(
                        of: "\(root)/\(domain)/\(number)", backend: service.hypervisor.domain,
                        kind: service.options.kind)
                    {
                        seen.insert(id)
                    }
                }
            }
            for id in seen { try follow(id) }
        }

        private mutating func follow(_ id: DeviceID) throws(XenbusError) {
            let device = devices[id] ?? makeDevice(id)
            devices[id] = device
            if try !device.follow(client) {
                device.forgetFrontend(client)
                devices[id] = nil
            }
        }

        private mutating func makeDevice(_ id: DeviceID) -> BackendDevice {
            let start = turn
            turn += 1
            var next = start
            let reactors = reactors
            let service = service
            return BackendDevice(
                path: BackendPath(backend: service.hypervisor.domain, kind: service.options.kind, device: id),
                hypervisor: service.hypervisor, options: service.options, journals: journals,
                openDisk: service.openDisk,
                nextReactor: {
                    next += 1
                    return reactors[(next - 1) % reactors.count]
                },
                report: { id, news in
                    service.reports.withLock { $0.append((id, news)) }
                    service.store.withLock { $0?.wake() }
                }, log: service.log)
        }

        private mutating func takeReports() throws(XenbusError) {
            let news = service.reports.withLock { list in
                defer { list.removeAll() }
                return list
            }
            for (id, item) in news {
                guard let device = devices[id] else { continue }
                try device.handle(item, client)
                try follow(id)
            }
        }

        private func publishStatus() {
            let list = devices.values.map { device in
                BackendDeviceStatus(
                    device: device.path.device, disk: device.disk?.name ?? "",
                    queues: device.queues.map(\.queue.statistics))
            }
            service.devices.withLock { $0 = list }
        }

        /// Ends everything in order: no new requests, what is in work ends. Then state 6, so that frontends know where they are; or, with
        /// journals, nothing more: frontends are to find a successor, not an end.
        private mutating func shutDown() throws(XenbusError) {
            let isHandingOver = journals != nil
            for device in devices.values {
                if !isHandingOver, !device.isIdle { try client.switchState(of: device.path.path, to: .closing) }
                device.closeQueues(handingOver: isHandingOver)
            }
            let deadline = monotonicMilliseconds() + 5000
            while devices.values.contains(where: { !$0.isIdle }), monotonicMilliseconds() < deadline {
                do throws(StoreError) { _ = try client.nextEvent(milliseconds: 50) } catch { throw .store(error) }
                let news = service.reports.withLock { list in
                    defer { list.removeAll() }
                    return list
                }
                for (id, item) in news { try devices[id]?.handle(item, client) }
            }
            for device in devices.values where device.isIdle && !isHandingOver {
                try client.switchState(of: device.path.path, to: .closed)
            }
        }
    }
}

/// The nodes of a device's directory that others write.
private let othersNodes: Set<Substring> = [
    "", "/state", "/online", "/frontend", "/hotplug-status", "/physical-device", "/physical-device-path",
]
