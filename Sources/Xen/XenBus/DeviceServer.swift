// The control loop of a backend: finds the devices of one kind in one domain, hot-plugged ones too, and has each
// followed. One thread, the caller's of `run`; any thread may post news or stop it.

import LinuxSystem
import Synchronization
import XenStore
import XenTypes

/// Serves every device of a kind.
public final class DeviceServer<Driver: BackendDriver>: Sendable {
    private let news = Mutex<[(DeviceID, Driver.News)]>([])
    private let store = Mutex<StoreClient?>(nil)
    private let stopping = Atomic<Bool>(false)
    private let abandoning = Atomic<Bool>(false)

    /// A server that has nothing to serve yet.
    public init() {}

    /// Ends `run`: devices are disconnected, what is in work ends first.
    public func stop() {
        stopping.store(true, ordering: .relaxed)
        store.withLock { $0?.wake() }
    }

    /// Ends `run` as a kill ends a process, for tests: nothing more is taken, done, answered or written to the store.
    package func abandon() {
        abandoning.store(true, ordering: .relaxed)
        stop()
    }

    /// Leaves news of a device's queue and wakes the loop.
    public func post(_ device: DeviceID, _ item: Driver.News) {
        news.withLock { $0.append((device, item)) }
        store.withLock { $0?.wake() }
    }

    /// Serves until `stop` or until the store is gone, by the client's clock. The client is closed at the end.
    /// - Parameters:
    ///   - period: milliseconds between ticks; 0: none.
    ///   - make: a device that was found.
    ///   - publish: called with all devices there are: once those that were there have been looked at, then after each
    ///     change.
    public func run(
        _ client: StoreClient, domain: DomainID, kind: DeviceKind, period: Int32, make: (BackendPath) -> BackendFollower<Driver>,
        publish: ([BackendFollower<Driver>]) -> Void
    ) throws(XenbusError) {
        store.withLock { $0 = client }
        defer {
            store.withLock { $0 = nil }
            client.close()
        }
        var loop = Loop(server: self, client: client, domain: domain, kind: kind)
        try loop.begin(make)
        let time = client.time
        var lastTick = time.milliseconds
        publish(Array(loop.devices.values))
        while !stopping.load(ordering: .relaxed) {
            let event: WatchEvent?
            do throws(StoreError) { event = try client.nextEvent(milliseconds: loop.timeout(period)) } catch { throw .store(error) }
            if let event { try loop.handle(event, make) }
            try loop.takeNews(make)
            for (id, device) in loop.devices where device.takeRetry() { try loop.follow(id, make) }
            if period > 0, time.milliseconds - lastTick >= Int64(period) {
                lastTick = time.milliseconds
                for device in loop.devices.values { try device.tick(client) }
            }
            publish(Array(loop.devices.values))
        }
        if !abandoning.load(ordering: .relaxed) { try loop.shutDown() }
    }

    fileprivate func takeNews() -> [(DeviceID, Driver.News)] {
        news.withLock { list in
            defer { list.removeAll() }
            return list
        }
    }

    /// The loop's own state.
    private struct Loop {
        let server: DeviceServer
        let client: StoreClient
        let domain: DomainID
        let kind: DeviceKind
        var devices: [DeviceID: BackendFollower<Driver>] = [:]
        var root: String { BackendPath.root(domain, kind) }

        init(server: DeviceServer, client: StoreClient, domain: DomainID, kind: DeviceKind) {
            self.server = server
            self.client = client
            self.domain = domain
            self.kind = kind
        }

        mutating func begin(_ make: (BackendPath) -> BackendFollower<Driver>) throws(XenbusError) {
            do throws(StoreError) {
                try client.watch(root, token: "devices")
                try client.watch("@releaseDomain", token: "release")
            } catch { throw .store(error) }
            try scan(make)
        }

        /// How long to wait for an event: until something is to be tried again or a tick is due.
        func timeout(_ period: Int32) -> Int32 {
            let now = client.time.milliseconds
            let due = devices.values.compactMap(\.followAgainAt).min().map { Int32(clamping: max(1, $0 - now)) }
            return period > 0 ? min(period, due ?? period) : due ?? -1
        }

        mutating func handle(_ event: WatchEvent, _ make: (BackendPath) -> BackendFollower<Driver>) throws(XenbusError) {
            switch event.token {
            case "devices":
                guard let id = BackendPath.device(of: event.path, backend: domain, kind: kind) else { return try scan(make) }
                let rest = event.path.dropFirst("\(root)/\(id)".count)
                // Our own keys come back as events, too; only these call for a look.
                if othersNodes.contains(rest) {
                    try follow(id, make)
                } else if Driver.settingNodes.contains(rest) {
                    try devices[id]?.reread(client)
                }
            case "release":
                for (id, device) in devices {
                    guard let alive = try? client.isIntroduced(id.frontend), !alive else { continue }
                    device.isOrphan = true
                    try follow(id, make)
                }
            default:
                let parts = event.token.split(separator: " ")
                if parts.first == "settings" {
                    if parts.count == 2, let id = BackendPath.device(of: "\(root)/\(parts[1])", backend: domain, kind: kind) {
                        try devices[id]?.reread(client)
                    }
                } else if parts.count == 2, let id = BackendPath.device(of: "\(root)/\(parts[1])", backend: domain, kind: kind) {
                    // Somebody is there who writes it.
                    devices[id]?.isFrontendGone = false
                    try follow(id, make)
                }
            }
        }

        /// Looks at every directory there is and at every device known.
        private mutating func scan(_ make: (BackendPath) -> BackendFollower<Driver>) throws(XenbusError) {
            var seen = Set(devices.keys)
            for guest in try client.names(root) {
                for number in try client.names("\(root)/\(guest)") {
                    if let id = BackendPath.device(of: "\(root)/\(guest)/\(number)", backend: domain, kind: kind) {
                        seen.insert(id)
                    }
                }
            }
            for id in seen { try follow(id, make) }
        }

        mutating func follow(_ id: DeviceID, _ make: (BackendPath) -> BackendFollower<Driver>) throws(XenbusError) {
            let device = devices[id] ?? make(BackendPath(backend: domain, kind: kind, device: id))
            devices[id] = device
            if try !device.follow(client) {
                device.forgetFrontend(client)
                devices[id] = nil
            }
        }

        mutating func takeNews(_ make: (BackendPath) -> BackendFollower<Driver>) throws(XenbusError) {
            for (id, item) in server.takeNews() {
                guard let device = devices[id] else { continue }
                try device.handle(item, client)
                try follow(id, make)
            }
        }

        /// Ends everything in order: no new requests, what is in work ends. Then state 6, so that frontends know where
        /// they are; or, where a successor can go on, nothing more: frontends are to find it, not an end.
        func shutDown() throws(XenbusError) {
            for device in devices.values {
                let handsOver = device.driver.handsOver
                if !handsOver, !device.isIdle { try client.switchState(of: device.path.path, to: .closing) }
                device.closeQueues(handingOver: handsOver)
            }
            let deadline = client.time.milliseconds + 5000
            while devices.values.contains(where: { !$0.isIdle }), client.time.milliseconds < deadline {
                do throws(StoreError) { _ = try client.nextEvent(milliseconds: 50) } catch { throw .store(error) }
                for (id, item) in server.takeNews() { try devices[id]?.handle(item, client) }
            }
            for device in devices.values where !device.driver.handsOver {
                if device.isIdle { try client.switchState(of: device.path.path, to: .closed) }
                device.driver.letGo()
            }
        }
    }
}

/// The nodes of a device's directory that others write.
private let othersNodes: Set<Substring> = [
    "", "/state", "/online", "/frontend", "/hotplug-status", "/physical-device", "/physical-device-path",
]
