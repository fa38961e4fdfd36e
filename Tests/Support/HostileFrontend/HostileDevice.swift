// A vbd's frontend that publishes any keys and writes any bytes into its ring, on a real Xen. What stands between it
// and the backend is only what the backend checks.

import BlockProtocol
import Hypervisor
import Libxen
import LinuxSystem
import SharedMemory
import SharedRing
import XenStore
import XenTypes

/// What should not have come.
struct Unexpected: Error, CustomStringConvertible {
    let description: String
    init(_ description: String) { self.description = description }
}

/// One vbd of this domain.
final class HostileDevice {
    let hypervisor: LibxenHypervisor
    let store: StoreClient
    let path: String
    let backendPath: String
    let backend: DomainID

    /// - Parameter number: the virtual device's number, such as 51712.
    init(_ number: String) throws {
        hypervisor = try LibxenHypervisor(time: .system)
        store = try hypervisor.connectStore()
        path = "/local/domain/\(hypervisor.domain)/device/vbd/\(number)"
        backendPath = try store.read(path + "/backend")
        backend = DomainID(UInt16(try store.read(path + "/backend-id")) ?? 0)
    }

    /// Waits for the backend to be in `state`; in emulation everything takes its time.
    func wait(for state: XenbusState) throws {
        let deadline = SystemTime().milliseconds + 60_000
        while try store.state(of: backendPath) != state {
            guard SystemTime().milliseconds < deadline else {
                throw Unexpected("the backend is in \(try store.state(of: backendPath)), not in \(state)")
            }
            SystemTime().sleep(milliseconds: 5)
        }
    }

    /// Writes keys and says that they are there.
    func publish(_ keys: [(String, String)]) throws {
        try wait(for: .initWait)
        for (name, value) in keys { try store.write("\(path)/\(name)", value) }
        try store.write(path + "/state", "3")
    }

    /// A close cycle, to the state of a device that was just plugged in.
    func begin() throws {
        try store.write(path + "/state", "6")
        try wait(for: .closed)
        for name in ["ring-ref", "ring-page-order", "event-channel", "protocol", "multi-queue-num-queues", "feature-persistent"] {
            if try store.exists("\(path)/\(name)") { try store.remove("\(path)/\(name)") }
        }
        try store.write(path + "/state", "1")
    }

    /// The backend has put this device out: state 5, its reason in the error node for those who may read it.
    func expectQuarantine(_ what: String) throws {
        do { try wait(for: .closing) } catch { throw Unexpected("\(what): \(error)") }
    }
}

/// A connection of it, with a ring that is honest as long as nobody writes into it.
final class HostileConnection {
    let device: HostileDevice
    let ring: any OfferedPages
    let channel: any EventChannel
    /// Data pages; page n was filled with n + 1.
    let data: any OfferedPages
    var front: FrontRing<BlockRing>

    init(_ device: HostileDevice, persistent: Bool = false, dataPages: Int = 64) throws {
        self.device = device
        ring = try device.hypervisor.offerPages(1, to: device.backend, access: .readWrite)
        data = try device.hypervisor.offerPages(dataPages, to: device.backend, access: .readWrite)
        for page in 0..<dataPages { data.region.fill(page * 4096, count: 4096, with: UInt8(page + 1)) }
        channel = try device.hypervisor.allocateChannel(for: device.backend)
        front = FrontRing(initialising: ring.region, BlockRing(.native))
        try device.publish([
            ("ring-ref", ring.references[0].description), ("event-channel", channel.port.description),
            ("protocol", BlockABI.native.node), ("feature-persistent", persistent ? "1" : "0"),
        ])
        try device.wait(for: .connected)
        try device.store.write(device.path + "/state", "4")
    }

    /// Pushes requests and rings.
    func send(_ requests: BlockRequest...) {
        for request in requests { _ = front.push(request) }
        if front.publish() { channel.notify() }
    }

    /// The next response, waited for.
    func receive() throws -> BlockResponse {
        let deadline = SystemTime().milliseconds + 60_000
        while true {
            if let response = try front.nextResponse() { return response }
            _ = front.armAndRecheck()
            guard SystemTime().milliseconds < deadline else { throw Unexpected("no response") }
            SystemTime().sleep(milliseconds: 1)
        }
    }

    /// A read or write of one data page.
    func request(
        _ operation: BlockOperationCode, sector: UInt64 = 0, page: Int = 0, first: UInt8 = 0, last: UInt8 = 7, id: UInt64 = 1
    ) -> BlockRequest {
        var request = BlockRequest(operation, id: id, sector: sector)
        request.append(BlockSegment(data.references[page], first: first, last: last))
        return request
    }

    /// An indirect read whose descriptors are in page 60.
    func indirect(_ operation: BlockOperationCode = .read, count: UInt16) -> BlockRequest {
        var request = BlockRequest(indirect: operation, segmentCount: count, sector: 0, id: 6)
        for page in 0..<8 { request.setIndirectReference(page, to: data.references[60]) }
        return request
    }

    /// Asks, and a good request beside it: the one must be answered as said, the other must not suffer.
    func expect(_ status: BlockStatus, _ request: BlockRequest, _ what: String) throws {
        send(request, self.request(.read, sector: 8, page: 50, id: 4711))
        for _ in 0..<2 {
            let answer = try receive()
            let wanted = answer.id == 4711 ? .okay : status
            guard answer.status == wanted else {
                throw Unexpected("\(what): \(answer.id == 4711 ? "the good request beside it" : "it") ended with \(answer.status)")
            }
        }
    }
}
