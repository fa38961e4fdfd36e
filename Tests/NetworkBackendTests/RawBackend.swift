// A backend that does as it pleases, in domain 0, and the frontend that it serves.

import HostDevices
import Hypervisor
import InProcessHypervisor
import LinuxSystem
import NetworkFrontend
import SharedMemory
import SharedRing
import Testing
import Toolstack
import XenBus
import XenStore
import XenWire

/// One hostile or merely odd backend.
final class RawBackend {
    let host = InProcessHost()
    let hypervisor: InProcessHypervisor
    let store: StoreClient
    let paths: DevicePaths
    let wire: Wire
    let frontend: NetworkFrontend<InProcessHypervisor>
    let log = LineCollector()
    private(set) var keys: NetworkRequestKeys?
    private var rings: [any ContiguousGrants] = []
    private(set) var bell: (any EventChannel)?
    var transmit: BackRing<TransmitRing>
    var receive: BackRing<ReceiveRing>

    /// - Parameters:
    ///   - trusted: what the toolstack says of this backend in the frontend's directory; nil: nothing.
    ///   - device: the frontend's device instead of `wire`.
    ///   - goesLive: shows the frontend a live backend before it returns; else the caller does.
    init(
        controlRing: Bool = false, options: NetworkFrontendOptions = .init(), trusted: String? = nil,
        device: (any NetworkDevice)? = nil, goesLive: Bool = true
    ) throws {
        hypervisor = host.domain(0)
        store = try host.store.connectInProcess(domain: .zero)
        wire = try Wire("front")
        let guest = host.domain(1)
        paths = try DeviceDirectories(store: store).create(VifSpecification(), frontend: DomainID(1))
        if let trusted { try store.write(paths.frontendPath + "/trusted", trusted) }
        let log = log
        frontend = try NetworkFrontend(
            hypervisor: guest, number: 0, device: device ?? wire.network, options: options, log: { log.add($0) })
        try NetworkOffer(splitChannels: false, controlRing: controlRing).write(to: store, at: paths.backendPath)
        try store.write(paths.backendPath + "/state", "2")
        try frontend.start()
        let page = try SharedRegion(anonymous: 4096)
        transmit = BackRing(attaching: page, TransmitRing())
        receive = BackRing(attaching: page, ReceiveRing())
        guard goesLive else { return }
        try attach()
        try goLive()
    }

    /// Maps the rings that the frontend offers now.
    func attach() throws {
        let (store, path) = (store, paths.frontendPath)
        guard try eventually(5000, { try store.state(of: path) == .connected }) else { throw TimedOut("the frontend: \(log.all)") }
        let keys = try NetworkRequestKeys.read(from: store, at: path, offer: NetworkOffer(splitChannels: false))
        let first = try hypervisor.mapContiguous([keys.queues[0].transmit], of: DomainID(1), access: .readWrite)
        let second = try hypervisor.mapContiguous([keys.queues[0].receive], of: DomainID(1), access: .readWrite)
        transmit = BackRing(attaching: first.region, TransmitRing())
        receive = BackRing(attaching: second.region, ReceiveRing())
        rings += [first, second]
        bell = try hypervisor.bindChannel(remote: DomainID(1), port: keys.queues[0].port)
        self.keys = keys
    }

    func goLive() throws {
        let count = frontend.connectionCount
        try store.write(paths.backendPath + "/state", "4")
        guard eventually(5000, { self.frontend.connectionCount > count && self.frontend.isLive }) else {
            throw TimedOut("the frontend to go live: \(log.all)")
        }
    }

    /// Closes and begins anew; the frontend offers new rings. The old ones may stay mapped.
    func startAgain(lettingGo: Bool = true) throws {
        if lettingGo { letGo() }
        try say("6")
        let (store, path) = (store, paths.frontendPath)
        guard try eventually(5000, { try store.state(of: path) == .initialising }) else {
            throw TimedOut("the frontend to begin anew: \(log.all)")
        }
        try say("2")
        try attach()
    }

    /// Says in which state the backend is.
    func say(_ state: String) throws { try store.write(paths.backendPath + "/state", state) }

    /// Waits for posted pages and answers the first of them with these slots.
    func give(_ slots: [(ReceiveRequest) -> ReceiveSlot]) throws {
        for slot in slots { receive.push(slot(try posted())) }
        _ = receive.publish()
        bell?.notify()
    }

    /// The next page that the frontend posted.
    func posted() throws -> ReceiveRequest {
        var request: ReceiveRequest?
        guard
            try eventually(
                2000,
                {
                    request = try self.receive.nextRequest()
                    return request != nil
                }), let request
        else { throw TimedOut("a posted page") }
        return request
    }

    /// The next slot that the frontend sent; nil if there is none in time.
    func sent(milliseconds: Int64 = 2000) throws -> TransmitSlot? {
        var slot: TransmitSlot?
        _ = try eventually(milliseconds) {
            slot = try self.transmit.nextRequest()
            return slot != nil
        }
        return slot
    }

    func answer(_ id: UInt16, _ status: NetworkStatus = .okay) {
        transmit.push(TransmitResponse(id: id, status: status))
        _ = transmit.publish()
        bell?.notify()
    }

    /// Fills the page that the frontend posted next, by copy.
    func frame(_ bytes: [UInt8], flags: ReceiveFlags = []) throws {
        let request = try posted()
        try fill(request.reference, bytes)
        receive.push(ReceiveSlot(ReceiveResponse(id: request.id, flags: flags, status: Int16(bytes.count))))
        _ = receive.publish()
        bell?.notify()
    }

    func fill(_ reference: GrantReference, _ bytes: [UInt8]) throws {
        let page = try SharedRegion(anonymous: 4096)
        page.write(bytes, at: 0)
        let copy = GrantCopy(
            source: .local(page, offset: 0), destination: .grant(reference, of: DomainID(1), offset: 0), byteCount: bytes.count)
        #expect(try hypervisor.copyGrants([copy]) == [.okay])
    }

    /// A well-formed frame still comes through.
    func serves(seed: Int = 8) throws -> Bool {
        let bytes = plainFrame(80, seed: seed)
        try frame(bytes)
        return try wire.receive()?.frame == bytes
    }

    func ring() { bell?.notify() }

    /// Lets go of what it has mapped and bound.
    func letGo() {
        bell?.close()
        bell = nil
        for ring in rings { ring.unmap() }
        rings = []
    }

    func end() {
        try? store.write(paths.backendPath + "/state", "6")
        frontend.close()
        letGo()
        store.close()
    }
}
