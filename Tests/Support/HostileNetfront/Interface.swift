// A frontend of this domain's vif 0 that does as it pleases, on a real Xen.

import Hypervisor
import Libxen
import LinuxSystem
import NetworkProtocol
import SharedMemory
import SharedRing
import XenBus
import XenStore
import XenTypes

/// What did not come in time.
struct TimedOut: Error, CustomStringConvertible {
    let description: String
    init(_ what: String) { description = "timed out: \(what)" }
}

/// One connection.
final class Interface {
    let path: String
    let backend: DomainID
    private let backendPath: String
    private let hypervisor: LibxenHypervisor
    private let store: StoreClient
    let transmitPage: any OfferedPages
    let receivePage: any OfferedPages
    let controlPage: any OfferedPages
    /// Pages that the backend may read and write, and one that it may only read.
    let data: any OfferedPages
    let readOnly: any OfferedPages
    let bell: any EventChannel
    let controlBell: any EventChannel
    var transmit: FrontRing<TransmitRing>
    var receive: FrontRing<ReceiveRing>
    var control: FrontRing<ControlRing>

    /// Publishes rings and asks for a connection.
    /// - Parameter keys: more keys, or others.
    init(_ hypervisor: LibxenHypervisor, keys: [String: String] = [:]) throws {
        self.hypervisor = hypervisor
        store = try hypervisor.connectStore()
        path = FrontendPath(domain: hypervisor.domain, kind: .network, number: 0).path
        backend = DomainID(try store.requiredNumber(path + "/backend-id", in: 0...0x7FEF))
        backendPath = try store.requiredText(path + "/backend")
        transmitPage = try hypervisor.offerPages(1, to: backend, access: .readWrite)
        receivePage = try hypervisor.offerPages(1, to: backend, access: .readWrite)
        controlPage = try hypervisor.offerPages(1, to: backend, access: .readWrite)
        data = try hypervisor.offerPages(40, to: backend, access: .readWrite)
        readOnly = try hypervisor.offerPages(1, to: backend, access: .readOnly)
        bell = try hypervisor.allocateChannel(for: backend)
        controlBell = try hypervisor.allocateChannel(for: backend)
        transmit = FrontRing(initialising: transmitPage.region, TransmitRing())
        receive = FrontRing(initialising: receivePage.region, ReceiveRing())
        control = FrontRing(initialising: controlPage.region, ControlRing())
        try store.write(path + "/state", "1")
        try wait([.initWait])
        var all = [
            "tx-ring-ref": "\(transmitPage.references[0])", "rx-ring-ref": "\(receivePage.references[0])",
            "event-channel": "\(bell.port)", "ctrl-ring-ref": "\(controlPage.references[0])",
            "event-channel-ctrl": "\(controlBell.port)", "request-rx-copy": "1", "feature-rx-notify": "1", "feature-sg": "1",
            "feature-gso-tcpv4": "1", "multi-queue-num-queues": "1",
        ]
        all.merge(keys) { $1 }
        for (key, value) in all { try store.write(path + "/" + key, value) }
        try store.write(path + "/state", "4")
    }

    func wait(_ states: [XenbusState], milliseconds: Int64 = 30_000) throws {
        let deadline = SystemTime().milliseconds + milliseconds
        while true {
            let state = try store.state(of: backendPath)
            if states.contains(state) { return }
            guard SystemTime().milliseconds < deadline else { throw TimedOut("backend in state \(state), not in \(states)") }
            SystemTime().sleep(milliseconds: 10)
        }
    }

    /// Gives up everything, so that the next connection can begin.
    func close() throws {
        try store.write(path + "/state", "6")
        try wait([.closed])
        bell.close()
        controlBell.close()
        for pages in [transmitPage, receivePage, controlPage, data, readOnly] { pages.withdraw() }
        store.close()
    }

    func request(
        page: Int = 0, reference: UInt32? = nil, offset: Int = 0, size: Int, flags: TransmitFlags = [], id: Int = 0
    ) -> TransmitSlot {
        TransmitSlot(
            TransmitRequest(
                reference: reference.map { GrantReference($0) } ?? data.references[page], offset: UInt16(offset), flags: flags,
                id: UInt16(id), size: UInt16(size)))
    }

    func send(_ slots: [TransmitSlot]) {
        for slot in slots { _ = transmit.push(slot) }
        if transmit.publish() { bell.notify() }
    }

    func answers(_ count: Int) throws -> [NetworkStatus] {
        var found: [NetworkStatus] = []
        try within("\(count) answers") {
            while let response = try transmit.nextResponse() { found.append(response.status) }
            _ = transmit.armAndRecheck()
            return found.count >= count
        }
        return found
    }

    func received() throws -> ReceiveSlot {
        var slot: ReceiveSlot?
        try within("a frame") {
            slot = try receive.nextResponse()
            _ = receive.armAndRecheck()
            return slot != nil
        }
        guard let slot else { throw TimedOut("a frame") }
        return slot
    }

    func ask(_ type: UInt16, _ data0: UInt32 = 0, _ data1: UInt32 = 0, _ data2: UInt32 = 0) throws -> ControlStatus? {
        _ = control.push(ControlRequest(id: 7, rawType: type, data0, data1, data2))
        if control.publish() { controlBell.notify() }
        var response: ControlResponse?
        try within("an answer to \(type)") {
            response = try control.nextResponse()
            _ = control.armAndRecheck()
            return response != nil
        }
        return response?.status
    }

    private func within(_ what: String, _ condition: () throws -> Bool) throws {
        let deadline = SystemTime().milliseconds + 30_000
        while try !condition() {
            guard SystemTime().milliseconds < deadline else { throw TimedOut(what) }
            SystemTime().sleep(milliseconds: 2)
        }
    }

    /// A well-formed frame is taken.
    func isServed() throws -> Bool {
        data.region.write(Interface.frame(60), at: 39 * 4096)
        send([request(page: 39, size: 60, id: 99)])
        return try answers(1) == [.okay]
    }

    /// A broadcast of no protocol.
    static func frame(_ count: Int) -> [UInt8] {
        var frame = [UInt8](repeating: 0xFF, count: count)
        for (index, byte) in [0x00, 0x16, 0x3E, 0x09, 0x00, 0x66, 0x88, 0xB5].enumerated() where 6 + index < count {
            frame[6 + index] = UInt8(byte)
        }
        return frame
    }
}
