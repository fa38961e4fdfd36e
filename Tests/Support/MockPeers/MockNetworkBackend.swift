// A vif's backend for tests of network frontends.

import Hypervisor
import NetworkProtocol
import SharedMemory
import SharedRing
import Toolstack
import XenBus
import XenStore
import XenTypes

/// A backend that announces any keys and answers any bytes, to one frontend with one queue. Used by one thread.
public final class MockNetworkBackend {
    /// The backend's domain.
    public let hypervisor: any Hypervisor
    /// That domain's connection to the store.
    public let store: StoreClient
    /// The device, which the toolstack has attached.
    public let paths: DevicePaths
    /// What the frontend published, from `attach` on.
    public private(set) var keys: NetworkRequestKeys?
    /// The doorbell, from `attach` on.
    public private(set) var bell: (any EventChannel)?
    /// Frames from the frontend; before `attach` a ring that nobody fills.
    public var transmit: BackRing<TransmitRing>
    /// Frames to the frontend; before `attach` a ring that nobody fills.
    public var receive: BackRing<ReceiveRing>
    /// How long it waits for the frontend.
    public var patience: MockPeerPatience
    /// The frontend's log, if the test has it: a wait that fails says it.
    public var driverLog: (() -> [String])?
    private var rings: [any ContiguousGrants] = []

    /// Announces `offer` in the backend's directory, and that it waits for the frontend (state 2).
    public init(
        _ hypervisor: any Hypervisor, _ store: StoreClient, _ paths: DevicePaths, offer: NetworkOffer,
        patience: MockPeerPatience = MockPeerPatience(answer: 2000), driverLog: (() -> [String])? = nil
    ) throws {
        self.hypervisor = hypervisor
        self.store = store
        self.paths = paths
        self.patience = patience
        self.driverLog = driverLog
        let page = try SharedRegion(anonymous: 4096)
        transmit = BackRing(attaching: page, TransmitRing())
        receive = BackRing(attaching: page, ReceiveRing())
        try offer.write(to: store, at: paths.backendPath)
        try say(.initWait)
    }

    /// Waits until the frontend is connected, and maps the rings that it offers now. It says nothing itself.
    /// - Throws: `MockPeerError` if the frontend does not come up in time; what the hypervisor and the store throw.
    public func attach() throws {
        try wait(for: [.connected])
        let keys = try NetworkRequestKeys.read(from: store, at: paths.frontendPath, offer: NetworkOffer(splitChannels: false))
        let first = try hypervisor.mapContiguous([keys.queues[0].transmit], of: paths.frontend, access: .readWrite)
        let second = try hypervisor.mapContiguous([keys.queues[0].receive], of: paths.frontend, access: .readWrite)
        transmit = BackRing(attaching: first.region, TransmitRing())
        receive = BackRing(attaching: second.region, ReceiveRing())
        rings += [first, second]
        bell = try hypervisor.bindChannel(remote: paths.frontend, port: keys.queues[0].port)
        self.keys = keys
    }

    /// Waits for the frontend to be in one of `states`.
    /// - Throws: `MockPeerError` if it is in none of them in time.
    public func wait(for states: [XenbusState], milliseconds: Int64? = nil) throws {
        try store.waitForState(
            of: paths.frontendPath, in: states, milliseconds: milliseconds ?? patience.state, driverLog: driverLog)
    }

    /// Says in which state the backend is.
    public func say(_ state: XenbusState) throws { try say("\(state.rawValue)") }

    /// Says in which state the backend is, in any words.
    public func say(_ state: String) throws { try store.write(paths.backendPath + "/state", state) }

    /// Closes and begins anew; the frontend offers new rings, which are mapped. The old ones may stay mapped.
    public func startAgain(lettingGo: Bool = true) throws {
        if lettingGo { letGo() }
        try say(.closed)
        try wait(for: [.initialising])
        try say(.initWait)
        try attach()
    }

    /// Rings without a word.
    public func ring() { bell?.notify() }

    /// Lets go of what it has mapped and bound.
    public func letGo() {
        bell?.close()
        bell = nil
        for ring in rings { ring.unmap() }
        rings = []
    }
}
