// A mock frontend of a pair's interface, and a mock backend with the frontend that it serves.

import LinuxSystem
import MockPeers
import NetworkDevices
import NetworkFrontend
import NetworkProtocol
import SharedRing
import TestHosts
import TestSupport
import Toolstack
import XenStore
import XenTypes

extension MockNetworkFrontend {
    /// A frontend of the pair's interface, or of another of the same guest.
    convenience init(_ pair: NetworkPair, keys: [String: String] = [:], queues count: Int = 1, paths: DevicePaths? = nil) throws {
        let backend = pair.backend
        try self.init(pair.guest, paths ?? pair.paths, keys: keys, queues: count, driverLog: { backend.log })
    }
}

extension NetworkPair {
    /// Whether a well-formed frame of this frontend's still goes through.
    func serves(_ frontend: MockNetworkFrontend, queue: Int = 0) throws -> Bool {
        while try backWire.receive(milliseconds: 0) != nil {}
        let frame = plainFrame(100, seed: 5)
        frontend.data.region.write(frame, at: 63 * 4096)
        frontend.send([frontend.request(page: 63, size: 100, id: 999)], queue: queue)
        _ = try frontend.answers(1, queue: queue)
        return try backWire.receive()?.frame == frame
    }

    /// What the backend left in its error node.
    func backendError() throws -> String { try toolstack.store.value("/local/domain/0/error/backend/vif/1/0/error") ?? "" }
}

/// A frontend under test, with a socket where its tap would be, and the mock backend that serves it.
final class MockBackendPair {
    let host = TestHost(time: .system)
    let backend: MockNetworkBackend
    let wire: Wire
    let frontend: NetworkFrontend<TestHypervisor>
    let log = LineCollector()

    /// - Parameters:
    ///   - trusted: what the toolstack says of this backend in the frontend's directory; nil: nothing.
    ///   - device: the frontend's device instead of `wire`.
    ///   - goesLive: shows the frontend a live backend before it returns; else the caller does.
    init(
        controlRing: Bool = false, options: NetworkFrontendOptions = .init(), trusted: String? = nil,
        device: (any NetworkDevice)? = nil, goesLive: Bool = true
    ) throws {
        let store = try host.store.connectInProcess(domain: .zero)
        wire = try Wire("front")
        let paths = try DeviceDirectories(store: store).create(VifSpecification(), frontend: DomainID(1), random: .system)
        if let trusted { try store.write(paths.frontendPath + "/trusted", trusted) }
        let log = log
        frontend = try NetworkFrontend(
            hypervisor: host.domain(1), number: 0, device: device ?? wire.network, options: options, log: { log.add($0) })
        let offer = NetworkOffer(splitChannels: false, controlRing: controlRing)
        backend = try MockNetworkBackend(host.domain(0), store, paths, offer: offer, driverLog: { log.all })
        try frontend.start()
        guard goesLive else { return }
        try backend.attach()
        try goLive()
    }

    /// Shows the frontend a live backend.
    func goLive() throws {
        let count = frontend.connectionCount
        try backend.say(.connected)
        guard eventually(5000, { self.frontend.connectionCount > count && self.frontend.isLive }) else {
            throw TimedOut("the frontend to go live: \(log.all)")
        }
    }

    /// A well-formed frame still comes through.
    func serves(seed: Int = 8) throws -> Bool {
        let bytes = plainFrame(80, seed: seed)
        try backend.frame(bytes)
        return try wire.receive()?.frame == bytes
    }

    func end() {
        try? backend.say(.closed)
        frontend.close()
        backend.letGo()
        backend.store.close()
    }
}
