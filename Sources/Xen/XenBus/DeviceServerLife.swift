// The control loop of a backend, step by step: what events, news and time mean to its devices.

import LinuxSystem
import XenStore
import XenTypes

/// What a server knows of its devices while it has a store.
package struct DeviceServerLife<Driver: BackendDriver> {
    private let server: DeviceServer<Driver>
    private let client: StoreClient
    private let domain: DomainID
    private let kind: DeviceKind
    private let period: Int32
    private var devices: [DeviceID: BackendFollower<Driver>] = [:]
    private var lastTick: Int64
    /// When whoever ends it waits no longer, milliseconds of the client's clock.
    private var deadline: Int64 = 0
    private var root: String { BackendPath.root(domain, kind) }

    init(server: DeviceServer<Driver>, client: StoreClient, domain: DomainID, kind: DeviceKind, period: Int32) {
        self.server = server
        self.client = client
        self.domain = domain
        self.kind = kind
        self.period = period
        lastTick = client.time.milliseconds
    }

    /// Every device there is.
    package var list: [BackendFollower<Driver>] { Array(devices.values) }

    mutating func begin(_ make: (BackendPath) -> BackendFollower<Driver>) throws(XenbusError) {
        do throws(StoreError) {
            try client.watch(root, token: "devices")
            try client.watch("@releaseDomain", token: "release")
        } catch { throw .store(error) }
        try scan(make)
    }

    /// How long to wait for an event: until something is to be tried again or a tick is due; negative: for ever.
    package var timeout: Int32 {
        let now = client.time.milliseconds
        let due = devices.values.compactMap(\.followAgainAt).min().map { Int32(clamping: max(1, $0 - now)) }
        return period > 0 ? min(period, due ?? period) : due ?? -1
    }

    /// Waits for what the store has to tell, so long; nil: nothing.
    func nextEvent() throws(XenbusError) -> WatchEvent? {
        do throws(StoreError) { return try client.nextEvent(milliseconds: timeout) } catch { throw .store(error) }
    }

    /// Acts on an event, on news, and on time that has passed.
    package mutating func turn(
        _ event: WatchEvent?, _ make: (BackendPath) -> BackendFollower<Driver>
    ) throws(XenbusError) {
        if let event { try handle(event, make) }
        try takeNews(make)
        for (id, device) in devices where device.takeRetry() { try follow(id, make) }
        let now = client.time.milliseconds
        guard period > 0, now - lastTick >= Int64(period) else { return }
        lastTick = now
        for device in devices.values { try device.tick(client) }
    }

    private mutating func handle(_ event: WatchEvent, _ make: (BackendPath) -> BackendFollower<Driver>) throws(XenbusError) {
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

    private mutating func follow(_ id: DeviceID, _ make: (BackendPath) -> BackendFollower<Driver>) throws(XenbusError) {
        let device = devices[id] ?? make(BackendPath(backend: domain, kind: kind, device: id))
        devices[id] = device
        if try !device.follow(client) {
            device.forgetFrontend(client)
            devices[id] = nil
        }
    }

    private mutating func takeNews(_ make: (BackendPath) -> BackendFollower<Driver>) throws(XenbusError) {
        for (id, item) in server.takeNews() {
            guard let device = devices[id] else { continue }
            try device.handle(item, client)
            try follow(id, make)
        }
    }

    /// Begins to end everything in order: no new requests, what is in work ends. Then state 6, so that frontends know
    /// where they are; or, where a successor can go on, nothing more: frontends are to find it, not an end.
    package mutating func beginShutDown() throws(XenbusError) {
        for device in devices.values {
            let handsOver = device.driver.handsOver
            if !handsOver, !device.isIdle { try client.switchState(of: device.path.path, to: .closing) }
            device.closeQueues(handingOver: handsOver)
        }
        deadline = client.time.milliseconds + 5000
    }

    /// Whether nothing is in work any more, or has been for too long.
    package var isOver: Bool { devices.values.allSatisfy(\.isIdle) || client.time.milliseconds >= deadline }

    /// Takes what the queues report, and waits so long for it.
    package func awaitShutDown(milliseconds: Int32) throws(XenbusError) {
        do throws(StoreError) { _ = try client.nextEvent(milliseconds: milliseconds) } catch { throw .store(error) }
        for (id, item) in server.takeNews() { try devices[id]?.handle(item, client) }
    }

    /// Says the end, and lets go of the devices.
    package func finishShutDown() throws(XenbusError) {
        for device in devices.values where !device.driver.handsOver {
            if device.isIdle { try client.switchState(of: device.path.path, to: .closed) }
            device.driver.letGo()
        }
    }
}

/// The nodes of a device's directory that others write.
private let othersNodes: Set<Substring> = [
    "", "/state", "/online", "/frontend", "/hotplug-status", "/physical-device", "/physical-device-path",
]
