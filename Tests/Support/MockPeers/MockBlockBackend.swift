// A vbd's backend for tests of block frontends.

import BlockProtocol
import Hypervisor
import SharedMemory
import SharedRing
import Toolstack
import XenBus
import XenStore
import XenTypes

/// A backend that announces any keys and answers any bytes, to one frontend with one queue. Used by one thread.
public final class MockBlockBackend {
    /// The backend's domain.
    public let hypervisor: any Hypervisor
    /// That domain's connection to the store.
    public let store: StoreClient
    /// The device, which the toolstack has attached.
    public let paths: DevicePaths
    /// The first queue's ring, from `connect` on.
    public private(set) var rings: (any ContiguousGrants)?
    /// The first queue's doorbell, from `connect` on.
    public private(set) var channel: (any EventChannel)?
    /// How long it waits for the frontend.
    public var patience: MockPeerPatience

    /// Announces `offer` (such as `max-ring-page-order`) in the backend's directory, and says that it waits for the
    /// frontend (state 2).
    public init(
        _ hypervisor: any Hypervisor, _ store: StoreClient, _ paths: DevicePaths, offer: [String: String] = [:],
        patience: MockPeerPatience = MockPeerPatience()
    ) throws {
        self.hypervisor = hypervisor
        self.store = store
        self.paths = paths
        self.patience = patience
        for (key, value) in offer { try store.write("\(paths.backendPath)/\(key)", value) }
        try say(.initWait)
    }

    /// A disk of 4 MiB that can flush.
    public static let properties = ["sectors": "8192", "sector-size": "512", "info": "0", "feature-flush-cache": "1"]

    /// Waits for the frontend's rings, maps the first, publishes `properties` and says that it is connected.
    /// - Throws: `MockPeerError` if the frontend publishes nothing in time; what the hypervisor and the store throw.
    public func connect(_ properties: [String: String] = MockBlockBackend.properties) throws {
        try store.waitForState(of: paths.frontendPath, in: [.initialised], milliseconds: patience.state, driverLog: nil)
        let offer = BlockOffer(indirectSegments: 4096, queues: 256, ringPageOrder: 5)
        let keys = try BlockRequestKeys.read(from: store, at: paths.frontendPath, offer: offer)
        rings = try hypervisor.mapContiguous(keys.queues[0].ring, of: paths.frontend, access: .readWrite)
        channel = try hypervisor.bindChannel(remote: paths.frontend, port: keys.queues[0].port)
        for (key, value) in properties { try store.write("\(paths.backendPath)/\(key)", value) }
        try say(.connected)
    }

    /// Says in which state the backend is.
    public func say(_ state: XenbusState) throws { try store.write(paths.backendPath + "/state", "\(state.rawValue)") }

    /// Writes responses straight into the ring's first slots, publishes `produced` whatever was written, and rings, if
    /// it does.
    public func answer(_ responses: [BlockResponse], produced: UInt32, rings: Bool = true) {
        guard let region = self.rings?.region else { return }
        let ring = BlockRing(.native)
        for (index, response) in responses.enumerated() { ring.storeResponse(response, region, 64 + index * 112) }
        region.storeReleasing(produced, at: RingHeader.responseProduced)
        if rings { channel?.notify() }
    }

    /// Lets go of what it has mapped and bound.
    public func letGo() {
        channel?.close()
        channel = nil
        rings?.unmap()
        rings = nil
    }
}
