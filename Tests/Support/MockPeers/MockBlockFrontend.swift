// A vbd's frontend for tests of block backends.

import BlockProtocol
import Hypervisor
import SharedMemory
import SharedRing
import Toolstack
import XenBus
import XenStore
import XenTypes

/// A frontend with one ring of one page, which publishes and writes what its caller says.
///
/// `init` connects as a well-behaved frontend does; from there on everything is the caller's: `front` is the ring,
/// `ring` the page that it lies in, `data` the granted pages, `store` this domain's connection to the store. Used by
/// one thread.
public final class MockBlockFrontend {
    /// The frontend's domain.
    public let hypervisor: any Hypervisor
    /// A connection of that domain's own.
    public let store: StoreClient
    /// The frontend's directory.
    public let path: String
    /// The backend's directory.
    public let backendPath: String
    /// How slots lie in the ring.
    public let abi: BlockABI
    /// The ring's page.
    public let ring: any OfferedPages
    /// The doorbell.
    public let channel: any EventChannel
    /// Data pages; page n was filled with n + 1.
    public let data: any OfferedPages
    /// The ring's front; valid as long as nobody else writes into the page.
    public var front: FrontRing<BlockRing>
    /// How long it waits for the backend.
    public var patience: MockPeerPatience

    /// Makes its pages, publishes the keys as a well-behaved frontend would, and returns when both sides are connected.
    /// - Parameters:
    ///   - hypervisor: the frontend's domain.
    ///   - paths: the device, which the toolstack has attached.
    ///   - abi: how slots lie in the ring; published as `protocol`.
    ///   - persistent: what is published as `feature-persistent`.
    ///   - dataPages: how many pages `data` has.
    /// - Throws: `MockPeerError` if the backend does not come up in time; what the hypervisor and the store throw.
    public init(
        _ hypervisor: any Hypervisor, _ paths: DevicePaths, abi: BlockABI = .native, persistent: Bool = false, dataPages: Int = 64,
        patience: MockPeerPatience = MockPeerPatience()
    ) throws {
        self.hypervisor = hypervisor
        self.patience = patience
        self.abi = abi
        store = try hypervisor.connectStore()
        path = paths.frontendPath
        backendPath = paths.backendPath
        ring = try hypervisor.offerPages(1, to: paths.backend, access: .readWrite)
        data = try hypervisor.offerPages(dataPages, to: paths.backend, access: .readWrite)
        for page in 0..<dataPages { data.region.fill(page * 4096, count: 4096, with: UInt8(truncatingIfNeeded: page + 1)) }
        channel = try hypervisor.allocateChannel(for: paths.backend)
        front = FrontRing(initialising: ring.region, BlockRing(abi))
        try waitForBackend([.initWait])
        try store.write(path + "/ring-ref", ring.references[0].description)
        try store.write(path + "/event-channel", channel.port.description)
        try store.write(path + "/protocol", abi.node)
        try store.write(path + "/feature-persistent", persistent ? "1" : "0")
        try store.write(path + "/state", "3")
        try waitForBackend([.connected])
        try store.write(path + "/state", "4")
    }

    /// Waits for the backend to be in one of `states`.
    /// - Throws: `MockPeerError` if it is in none of them in time.
    public func waitForBackend(_ states: [XenbusState], milliseconds: Int64? = nil) throws {
        try store.waitForState(of: backendPath, in: states, milliseconds: milliseconds ?? patience.state, driverLog: nil)
    }

    /// Pushes one request and rings.
    public func send(_ request: BlockRequest) {
        _ = front.push(request)
        if front.publish() { channel.notify() }
    }

    /// The next response, waited for.
    /// - Throws: `MockPeerError` if none comes in time; `RingError` if the backend's producer index cannot be.
    public func receive(milliseconds: Int64? = nil) throws -> BlockResponse {
        let response: BlockResponse? = try poll(milliseconds ?? patience.answer, every: 1000) {
            if let response = try front.nextResponse() { return response }
            _ = front.armAndRecheck()
            return nil
        }
        guard let response else { throw MockPeerError("no response") }
        return response
    }

    /// The answer to one request.
    /// - Throws: `MockPeerError` if another request is answered, or none in time.
    public func ask(_ request: BlockRequest) throws -> BlockStatus {
        send(request)
        let response = try receive()
        guard response.id == request.id else { throw MockPeerError("an answer to \(response.id), not \(request.id)") }
        return response.status
    }

    /// A read or write of one data page.
    /// - Parameters:
    ///   - sector: where on the disk, in 512-byte sectors.
    ///   - page: which of `data`.
    ///   - first: the first sector of that page, 0 to 7 if it is to make sense.
    ///   - last: the last sector, included.
    public func request(
        _ operation: BlockOperationCode, sector: UInt64, page: Int = 0, first: UInt8 = 0, last: UInt8 = 7, id: UInt64 = 1
    ) -> BlockRequest {
        var request = BlockRequest(operation, id: id, sector: sector)
        request.append(BlockSegment(data.references[page], first: first, last: last))
        return request
    }

    /// Lets go in good order: closes, waits for the backend to close, and takes its pages back.
    public func close() throws {
        try store.write(path + "/state", "6")
        try waitForBackend([.closed])
        channel.close()
        ring.withdraw()
        data.withdraw()
        store.close()
    }
}
