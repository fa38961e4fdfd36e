// A backend that does as it pleases: what stands between it and the frontend is only what the frontend checks.

import HostDevices
import Hypervisor
import HypervisorCore
import InProcessHypervisor
import LinuxSystem
import NetworkFrontend
import SharedMemory
import SharedRing
import Synchronization
import Testing
import Toolstack
import XenBus
import XenStore
import XenWire

/// A backend that does as it pleases, in domain 0.
final class RawBackend {
    let host = InProcessHost()
    let hypervisor: InProcessHypervisor
    let store: StoreClient
    let paths: DevicePaths
    let wire: Wire
    let frontend: NetworkFrontend<InProcessHypervisor>
    var rings: [any ContiguousGrants] = []
    var bell: (any EventChannel)?
    var transmit: BackRing<TransmitRing>
    var receive: BackRing<ReceiveRing>

    /// What the frontend published for this connection.
    private(set) var keys: NetworkRequestKeys
    /// What the host held before the frontend came.
    let baseline: HypervisorUsage

    init(controlRing: Bool = false, spec: VifSpecification = VifSpecification()) throws {
        hypervisor = host.domain(0)
        store = try host.store.connectInProcess(domain: .zero)
        wire = try Wire("front")
        let guest = host.domain(1)
        baseline = host.usage
        paths = try DeviceDirectories(store: store).create(spec, frontend: DomainID(1))
        frontend = try NetworkFrontend(hypervisor: guest, number: 0, device: wire.network)
        try NetworkOffer(splitChannels: false, controlRing: controlRing).write(to: store, at: paths.backendPath)
        try store.write(paths.backendPath + "/state", "2")
        try frontend.start()
        let found = try Self.attach(hypervisor, store, paths)
        (keys, rings, bell) = (found.keys, found.rings, found.bell)
        transmit = BackRing(attaching: found.rings[0].region, TransmitRing())
        receive = BackRing(attaching: found.rings[1].region, ReceiveRing())
        try goLive()
    }

    /// Maps what the frontend has published.
    private static func attach(
        _ hypervisor: InProcessHypervisor, _ store: StoreClient, _ paths: DevicePaths
    ) throws -> (keys: NetworkRequestKeys, rings: [any ContiguousGrants], bell: any EventChannel) {
        guard try eventually(5000, { try store.state(of: paths.frontendPath) == .connected }) else { throw TimedOut("the frontend") }
        let keys = try NetworkRequestKeys.read(from: store, at: paths.frontendPath, offer: NetworkOffer(splitChannels: false))
        let first = try hypervisor.mapContiguous([keys.queues[0].transmit], of: DomainID(1), access: .readWrite)
        let second = try hypervisor.mapContiguous([keys.queues[0].receive], of: DomainID(1), access: .readWrite)
        return (keys, [first, second], try hypervisor.bindChannel(remote: DomainID(1), port: keys.queues[0].port))
    }

    private func goLive() throws {
        let count = frontend.connectionCount
        try store.write(paths.backendPath + "/state", "4")
        guard eventually(5000, { self.frontend.isLive && self.frontend.connectionCount > count - 1 }) else {
            throw TimedOut("the frontend to go live")
        }
    }

    /// Another connection, from a closed device on; what was mapped before stays mapped, for whoever wants to misuse it.
    func connectAgain(_ offer: NetworkOffer = NetworkOffer(splitChannels: false, controlRing: false)) throws {
        let before = keys
        try store.write(paths.backendPath + "/state", "6")
        guard try eventually(5000, { try store.state(of: paths.frontendPath) != .connected }) else { throw TimedOut("the frontend to let go") }
        try offer.write(to: store, at: paths.backendPath)
        try store.write(paths.backendPath + "/state", "2")
        let found = try Self.attach(hypervisor, store, paths)
        (keys, rings, bell) = (found.keys, found.rings, found.bell)
        guard keys.queues != before.queues else { throw TimedOut("new rings") }
        transmit = BackRing(attaching: found.rings[0].region, TransmitRing())
        receive = BackRing(attaching: found.rings[1].region, ReceiveRing())
        try goLive()
    }

    /// Waits for posted pages and answers the first of them with these slots.
    func give(_ slots: [(ReceiveRequest) -> ReceiveSlot]) throws {
        for slot in slots {
            var request: ReceiveRequest?
            guard try eventually(2000, {
                request = try self.receive.nextRequest()
                return request != nil
            }), let request else { throw TimedOut("a posted page") }
            receive.push(slot(request))
        }
        _ = receive.publish()
        bell?.notify()
    }

    /// Fills the page that the frontend posts next, by copy.
    func frame(_ bytes: [UInt8]) throws {
        guard let request = try receive.nextRequest() else { throw TimedOut("a page") }
        let page = try SharedRegion(anonymous: 4096)
        page.write(bytes, at: 0)
        let copy = GrantCopy(
            source: .local(page, offset: 0), destination: .grant(request.reference, of: DomainID(1), offset: 0), byteCount: bytes.count)
        #expect(try hypervisor.copyGrants([copy]) == [.okay])
        receive.push(ReceiveSlot(ReceiveResponse(id: request.id, status: Int16(bytes.count))))
        _ = receive.publish()
        bell?.notify()
    }

    /// A well-formed frame still comes through.
    func serves() throws -> Bool {
        let bytes = plainFrame(80, seed: 8)
        try frame(bytes)
        return try wire.receive()?.frame == bytes
    }

    func ring() { bell?.notify() }

    func end() {
        try? store.write(paths.backendPath + "/state", "6")
        frontend.close()
        bell?.close()
        for ring in rings { ring.unmap() }
        store.close()
    }
}
