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
        defer { end(client) }
        var life = try begin(client, domain: domain, kind: kind, period: period, make)
        publish(life.list)
        while !isStopping {
            let event = try life.nextEvent()
            try life.turn(event, make)
            publish(life.list)
        }
        if isAbandoned { return }
        try life.beginShutDown()
        while !life.isOver { try life.awaitShutDown(milliseconds: 50) }
        try life.finishShutDown()
    }

    /// Looks at what there is. Then whoever runs the server calls the life's `turn` with each event until
    /// `isStopping`, its three steps of a shut-down, and `end`, on one thread; `run` does.
    package func begin(
        _ client: StoreClient, domain: DomainID, kind: DeviceKind, period: Int32, _ make: (BackendPath) -> BackendFollower<Driver>
    ) throws(XenbusError) -> DeviceServerLife<Driver> {
        store.withLock { $0 = client }
        var life = DeviceServerLife(server: self, client: client, domain: domain, kind: kind, period: period)
        try life.begin(make)
        return life
    }

    /// The server has no client any more.
    package func end(_ client: StoreClient) {
        store.withLock { $0 = nil }
        client.close()
    }

    /// Whether `stop` or `abandon` was called.
    package var isStopping: Bool { stopping.load(ordering: .relaxed) }
    private var isAbandoned: Bool { abandoning.load(ordering: .relaxed) }

    func takeNews() -> [(DeviceID, Driver.News)] {
        news.withLock { list in
            defer { list.removeAll() }
            return list
        }
    }
}
