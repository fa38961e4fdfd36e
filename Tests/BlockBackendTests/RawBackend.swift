// A backend that does as it pleases: it announces any keys and answers any bytes.

import Hypervisor
import InProcessHypervisor
import LinuxSystem
import SharedMemory
import SharedRing
import Toolstack
import XenBus
import XenStore
import XenWire

/// A hostile or merely odd backend of one device of domain 1, in domain 0.
final class RawBackend {
    let host: InProcessHost
    let hypervisor: InProcessHypervisor
    let store: StoreClient
    let paths: DevicePaths
    var rings: (any ContiguousGrants)?
    var channel: (any EventChannel)?

    /// Attaches a device and announces `offer`.
    init(_ host: InProcessHost = InProcessHost(), offer: [String: String] = [:]) throws {
        self.host = host
        hypervisor = host.domain(0)
        store = try host.store.connectInProcess(domain: .zero)
        try DomainDirectories(store: store).create(DomainID(1), name: "guest")
        paths = try DeviceDirectories(store: store).create(
            .init(try DiskSpecification(parsing: "/nowhere,raw,xvda,w"), frontend: DomainID(1)))
        for (key, value) in offer { try store.write("\(paths.backendPath)/\(key)", value) }
        try store.write(paths.backendPath + "/state", "2")
    }

    static let properties = ["sectors": "8192", "sector-size": "512", "info": "0", "feature-flush-cache": "1"]

    /// Waits for the frontend's rings, maps the first, publishes `properties`.
    func connect(_ properties: [String: String] = RawBackend.properties) throws {
        let deadline = monotonicMilliseconds() + 5000
        while try store.state(of: paths.frontendPath) != .initialised {
            guard monotonicMilliseconds() < deadline else { throw TimedOut("the frontend published nothing") }
            sleepMilliseconds(2)
        }
        let offer = BlockOffer(indirectSegments: 4096, queues: 256, ringPageOrder: 5)
        let keys = try BlockRequestKeys.read(from: store, at: paths.frontendPath, offer: offer)
        rings = try hypervisor.mapContiguous(keys.queues[0].ring, of: DomainID(1), access: .readWrite)
        channel = try hypervisor.bindChannel(remote: DomainID(1), port: keys.queues[0].port)
        for (key, value) in properties { try store.write("\(paths.backendPath)/\(key)", value) }
        try store.write(paths.backendPath + "/state", "4")
    }

    /// Writes responses straight into the ring and publishes `produced`.
    func answer(_ responses: [BlockResponse], produced: UInt32) {
        guard let region = rings?.region else { return }
        let ring = BlockRing(.native)
        for (index, response) in responses.enumerated() { ring.storeResponse(response, region, 64 + index * 112) }
        region.storeReleasing(produced, at: RingHeader.responseProduced)
        channel?.notify()
    }
}
