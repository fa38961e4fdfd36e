// A vif's frontend for tests of network backends.

import Hypervisor
import NetworkProtocol
import SharedMemory
import SharedRing
import Toolstack
import XenBus
import XenStore
import XenTypes

/// A frontend with one or more queues and a control ring, which publishes and writes what its caller says. Used by one
/// thread.
public final class MockNetworkFrontend {
    /// The frontend's domain.
    public let hypervisor: any Hypervisor
    /// A connection of that domain's own.
    public let store: StoreClient
    /// The frontend's directory.
    public let path: String
    /// The backend's directory.
    public let backendPath: String
    /// Its queues; at least one.
    public let queues: [MockNetworkQueue]
    /// The page that the control ring lies in.
    public let controlPage: any OfferedPages
    /// The control ring's doorbell.
    public let controlBell: any EventChannel
    /// 64 pages that the backend may read and write; page n is filled with n + 1.
    public let data: any OfferedPages
    /// Settings that the frontend asks the backend for.
    public var control: FrontRing<ControlRing>
    /// How long it waits for the backend.
    public var patience: MockPeerPatience
    /// The backend's log, if the test has it: a wait that fails says it.
    public var driverLog: (() -> [String])?

    // The first queue, which is all that most tests have.

    /// The page that the first queue's transmit ring lies in.
    public var transmitPage: any OfferedPages { queues[0].transmitPage }
    /// The page that the first queue's receive ring lies in.
    public var receivePage: any OfferedPages { queues[0].receivePage }
    /// The first queue's doorbell.
    public var bell: any EventChannel { queues[0].bell }
    /// The first queue's frames to the backend.
    public var transmit: FrontRing<TransmitRing> {
        _read { yield queues[0].transmit }
        _modify { yield &queues[0].transmit }
    }
    /// The first queue's frames from the backend.
    public var receive: FrontRing<ReceiveRing> {
        _read { yield queues[0].receive }
        _modify { yield &queues[0].receive }
    }

    /// Waits for the backend's offer, publishes its keys in one transaction and says that it is connected. Whether the
    /// backend is, `wait` says.
    /// - Parameters:
    ///   - hypervisor: the frontend's domain.
    ///   - paths: the device, which the toolstack has attached.
    ///   - keys: keys instead of those of a well-behaved frontend, or more; an empty value removes one.
    ///   - count: how many queues.
    ///   - driverLog: the backend's log.
    /// - Throws: `MockPeerError` if the backend offers nothing in time; what the hypervisor and the store throw.
    public init(
        _ hypervisor: any Hypervisor, _ paths: DevicePaths, keys: [String: String] = [:], queues count: Int = 1,
        patience: MockPeerPatience = MockPeerPatience(), driverLog: (() -> [String])? = nil
    ) throws {
        self.hypervisor = hypervisor
        self.patience = patience
        self.driverLog = driverLog
        let backend = paths.backend
        store = try hypervisor.connectStore()
        path = paths.frontendPath
        backendPath = paths.backendPath
        queues = try (0..<count).map { _ in try MockNetworkQueue(hypervisor, backend) }
        controlPage = try hypervisor.offerPages(1, to: backend, access: .readWrite)
        data = try hypervisor.offerPages(64, to: backend, access: .readWrite)
        for page in 0..<64 { data.region.fill(page * 4096, count: 4096, with: UInt8(page + 1)) }
        controlBell = try hypervisor.allocateChannel(for: backend)
        control = FrontRing(initialising: controlPage.region, ControlRing())
        try wait(for: [.initWait])
        try publish(allKeys.merging(keys) { $1 })
    }

    /// What a well-behaved frontend publishes.
    private var allKeys: [String: String] {
        var all = [
            "ctrl-ring-ref": "\(controlPage.references[0])", "event-channel-ctrl": "\(controlBell.port)", "request-rx-copy": "1",
            "feature-rx-notify": "1", "feature-sg": "1", "feature-gso-tcpv4": "1",
        ]
        if queues.count > 1 { all["multi-queue-num-queues"] = "\(queues.count)" }
        for (index, queue) in queues.enumerated() {
            for (key, value) in queue.keys { all[queues.count > 1 ? "queue-\(index)/\(key)" : key] = value }
        }
        return all
    }

    /// Writes `keys` and state 4, and removes what an earlier connection left that would mean something else.
    private func publish(_ keys: [String: String]) throws {
        let path = path
        try store.atomically { access throws(XenbusError) in
            for name in try access.names(path)
            where name.hasPrefix("queue-") || keys[name] == "" || name == "multi-queue-num-queues" {
                try access.discardNode(path + "/" + name)
            }
            for (key, value) in keys where value != "" { try access.put(path + "/" + key, value) }
            try access.put(path + "/state", "4")
        }
    }

    /// The backend's state.
    public func state() throws -> XenbusState { try store.state(of: backendPath) }

    /// Waits for the backend to be in one of `states`.
    /// - Throws: `MockPeerError` if it is in none of them in time.
    public func wait(for states: [XenbusState], milliseconds: Int64? = nil) throws {
        try store.waitForState(of: backendPath, in: states, milliseconds: milliseconds ?? patience.state, driverLog: driverLog)
    }

    /// Goes to state 6, waits until the backend has let go, and takes everything back.
    public func close() throws {
        try store.write(path + "/state", "6")
        try wait(for: [.closed])
        release()
    }

    /// Takes everything back whatever the backend does.
    public func release() {
        for queue in queues { queue.close() }
        controlBell.close()
        for pages in [controlPage, data] { pages.withdraw() }
        store.close()
    }

    /// Closes, and asks for a new start.
    public func closeForAnother() throws {
        try store.write(path + "/state", "6")
        try wait(for: [.closed])
        try store.write(path + "/state", "1")
        try wait(for: [.initWait])
        release()
    }
}
