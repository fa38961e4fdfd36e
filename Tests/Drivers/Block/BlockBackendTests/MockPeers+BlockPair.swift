// Mock peers of a pair's device, and of a device with no driver at the other end yet.

import BlockFrontend
import BlockProtocol
import LinuxSystem
import MockPeers
import TestHosts
import Toolstack
import XenTypes

extension MockBlockFrontend {
    /// A frontend of the pair's device.
    convenience init(_ pair: BlockPair, abi: BlockABI = .native, persistent: Bool = false) throws {
        try self.init(pair.guest, pair.paths, abi: abi, persistent: persistent)
    }
}

extension MockBlockBackend {
    /// Attaches a disk to domain 1 and announces `offer` in domain 0.
    convenience init(_ host: TestHost, offer: [String: String] = [:]) throws {
        let hypervisor = host.domain(0)
        let store = try host.store.connectInProcess(domain: .zero)
        try DomainDirectories(store: store).create(DomainID(1), name: "guest", uuid: "guest")
        let paths = try DeviceDirectories(store: store).create(
            .init(try DiskSpecification(parsing: "/nowhere,raw,xvda,w"), frontend: DomainID(1)))
        try self.init(hypervisor, store, paths, offer: offer)
    }
}

/// A frontend connected to a backend of our own making, in a host of their own.
///
/// - Parameter nodes: what a toolstack has in the frontend's directory beside the usual.
func withMockBackend(
    nodes: [String: String] = [:], _ body: (MockBlockBackend, BlockFrontend<TestHypervisor>) throws -> Void
) throws {
    let host = TestHost(time: .system)
    let backend = try MockBlockBackend(host)
    for (key, value) in nodes { try backend.store.write("\(backend.paths.frontendPath)/\(key)", value) }
    let frontend = try BlockFrontend(hypervisor: host.domain(1), device: 51712)
    let connecting = try WorkerThread(name: "connect") { try? frontend.connect(timeoutMilliseconds: 5000) }
    try backend.connect()
    connecting.join()
    try body(backend, frontend)
    frontend.close()
}
