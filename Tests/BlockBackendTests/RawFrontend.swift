// A frontend that does as it pleases: it publishes any keys and writes any bytes into its ring. What stands between it and the
// backend is only what the backend checks.

import Hypervisor
import InProcessHypervisor
import LinuxSystem
import SharedMemory
import SharedRing
import Toolstack
import XenBus
import XenStore
import XenWire

/// A hostile or merely odd frontend of the pair's device.
final class RawFrontend {
    let hypervisor: InProcessHypervisor
    let store: StoreClient
    let path: String
    let backendPath: String
    let abi: BlockABI
    let ring: any OfferedPages
    let channel: any EventChannel
    /// Data pages; page n was filled with n + 1.
    let data: any OfferedPages
    var front: FrontRing<BlockRing>

    /// Makes its pages and publishes the keys as an honest frontend would.
    init(_ pair: BlockPair, abi: BlockABI = .native, persistent: Bool = false, dataPages: Int = 64) throws {
        hypervisor = pair.guest
        store = try pair.guest.connectStore()
        path = pair.paths.frontendPath
        backendPath = pair.paths.backendPath
        self.abi = abi
        ring = try hypervisor.offerPages(1, to: .zero, access: .readWrite)
        data = try hypervisor.offerPages(dataPages, to: .zero, access: .readWrite)
        for page in 0..<dataPages { data.region.fill(page * 4096, count: 4096, with: UInt8(page + 1)) }
        channel = try hypervisor.allocateChannel(for: .zero)
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
    func waitForBackend(_ states: [XenbusState], milliseconds: Int64 = 5000) throws {
        let deadline = monotonicMilliseconds() + milliseconds
        while !states.contains(try store.state(of: backendPath)) {
            guard monotonicMilliseconds() < deadline else {
                throw TimedOut("backend is in \(try store.state(of: backendPath)), not in \(states)")
            }
            sleepMilliseconds(2)
        }
    }

    /// Pushes one request and rings.
    func send(_ request: BlockRequest) {
        _ = front.push(request)
        if front.publish() { channel.notify() }
    }

    /// The next response, waited for.
    func receive(milliseconds: Int64 = 3000) throws -> BlockResponse {
        let deadline = monotonicMilliseconds() + milliseconds
        while true {
            if let response = try front.nextResponse() { return response }
            _ = front.armAndRecheck()
            guard monotonicMilliseconds() < deadline else { throw TimedOut("no response") }
            sleepMilliseconds(1)
        }
    }

    /// The answer to one request.
    func ask(_ request: BlockRequest) throws -> BlockStatus {
        send(request)
        let response = try receive()
        guard response.id == request.id else { throw TimedOut("an answer to \(response.id), not \(request.id)") }
        return response.status
    }

    /// A read or write of one data page.
    func request(_ operation: BlockOperationCode, sector: UInt64, page: Int = 0, first: UInt8 = 0, last: UInt8 = 7, id: UInt64 = 1)
        -> BlockRequest
    {
        var request = BlockRequest(operation, id: id, sector: sector)
        request.append(BlockSegment(data.references[page], first: first, last: last))
        return request
    }

    /// Lets go in good order.
    func close() throws {
        try store.write(path + "/state", "6")
        try waitForBackend([.closed])
        channel.close()
        ring.withdraw()
        data.withdraw()
        store.close()
    }
}

struct TimedOut: Error {
    let what: String
    init(_ what: String) { self.what = what }
}
