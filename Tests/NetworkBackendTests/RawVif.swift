// A frontend that does as it pleases: what stands between it and the backend is only what the backend checks.

import Hypervisor
import InProcessHypervisor
import LinuxSystem
import SharedMemory
import SharedRing
import XenBus
import XenStore
import XenWire

/// A hostile or merely odd frontend of the pair's interface.
final class RawVif {
    let pair: NetworkPair
    let hypervisor: InProcessHypervisor
    let store: StoreClient
    let path: String
    let transmitPage: any OfferedPages
    let receivePage: any OfferedPages
    let controlPage: any OfferedPages
    let bell: any EventChannel
    let controlBell: any EventChannel
    /// Pages that the backend may read and write; page n is filled with n + 1.
    let data: any OfferedPages
    var transmit: FrontRing<TransmitRing>
    var receive: FrontRing<ReceiveRing>
    var control: FrontRing<ControlRing>

    /// - Parameter keys: more keys, or others; an empty one is left out.
    init(_ pair: NetworkPair, keys: [String: String] = [:], backend: UInt16 = 0) throws {
        let backend = DomainID(backend)
        self.pair = pair
        hypervisor = pair.guest
        store = try pair.guest.connectStore()
        path = pair.paths.frontendPath
        transmitPage = try hypervisor.offerPages(1, to: backend, access: .readWrite)
        receivePage = try hypervisor.offerPages(1, to: backend, access: .readWrite)
        controlPage = try hypervisor.offerPages(1, to: backend, access: .readWrite)
        data = try hypervisor.offerPages(64, to: backend, access: .readWrite)
        for page in 0..<64 { data.region.fill(page * 4096, count: 4096, with: UInt8(page + 1)) }
        bell = try hypervisor.allocateChannel(for: backend)
        controlBell = try hypervisor.allocateChannel(for: backend)
        transmit = FrontRing(initialising: transmitPage.region, TransmitRing())
        receive = FrontRing(initialising: receivePage.region, ReceiveRing())
        control = FrontRing(initialising: controlPage.region, ControlRing())
        try wait(for: [.initWait])
        var all = [
            "tx-ring-ref": "\(transmitPage.references[0])", "rx-ring-ref": "\(receivePage.references[0])",
            "event-channel": "\(bell.port)", "ctrl-ring-ref": "\(controlPage.references[0])",
            "event-channel-ctrl": "\(controlBell.port)", "request-rx-copy": "1", "feature-rx-notify": "1", "feature-sg": "1",
            "feature-gso-tcpv4": "1",
        ]
        all.merge(keys) { $1 }
        for (key, value) in all where !value.isEmpty { try store.write(path + "/" + key, value) }
        try store.write(path + "/state", "4")
    }

    func state() throws -> XenbusState { try store.state(of: pair.paths.backendPath) }

    func wait(for states: [XenbusState], milliseconds: Int64 = 5000) throws {
        guard try eventually(milliseconds, { states.contains(try state()) }) else {
            throw TimedOut("backend is in \(try state()), not in \(states)")
        }
    }

    /// What the backend left in its error node.
    func error() throws -> String { try pair.toolstack.store.value("/local/domain/0/error/backend/vif/1/0/error") ?? "" }

    /// Pushes slots and rings.
    func send(_ slots: [TransmitSlot]) {
        for slot in slots { _ = transmit.push(slot) }
        if transmit.publish() { bell.notify() }
    }

    /// The next answers, waited for.
    func answers(_ count: Int, milliseconds: Int64 = 3000) throws -> [TransmitResponse] {
        var found: [TransmitResponse] = []
        let deadline = monotonicMilliseconds() + milliseconds
        while found.count < count {
            if let response = try transmit.nextResponse() {
                found.append(response)
            } else {
                _ = transmit.armAndRecheck()
                guard monotonicMilliseconds() < deadline else { throw TimedOut("\(found.count) of \(count) answers") }
                sleepMilliseconds(1)
            }
        }
        return found
    }

    func request(page: Int = 0, offset: Int = 0, size: Int, flags: TransmitFlags = [], id: Int = 0) -> TransmitSlot {
        TransmitSlot(
            TransmitRequest(
                reference: data.references[page], offset: UInt16(offset), flags: flags, id: UInt16(id), size: UInt16(size)))
    }

    func post(_ pages: [Int]) {
        for page in pages { _ = receive.push(ReceiveRequest(id: UInt16(page), reference: data.references[page])) }
        if receive.publish() { bell.notify() }
    }

    func received(milliseconds: Int64 = 3000) throws -> ReceiveSlot {
        let deadline = monotonicMilliseconds() + milliseconds
        while true {
            if let slot = try receive.nextResponse() { return slot }
            _ = receive.armAndRecheck()
            guard monotonicMilliseconds() < deadline else { throw TimedOut("nothing received") }
            sleepMilliseconds(1)
        }
    }

    func ask(_ type: UInt16, _ data0: UInt32 = 0, _ data1: UInt32 = 0, _ data2: UInt32 = 0) throws -> ControlResponse {
        _ = control.push(ControlRequest(id: 77, rawType: type, data0, data1, data2))
        if control.publish() { controlBell.notify() }
        let deadline = monotonicMilliseconds() + 3000
        while true {
            if let response = try control.nextResponse() { return response }
            _ = control.armAndRecheck()
            guard monotonicMilliseconds() < deadline else { throw TimedOut("no answer to control request \(type)") }
            sleepMilliseconds(1)
        }
    }

    /// A well-formed frame still goes through.
    func isServed() throws -> Bool {
        while try pair.backWire.receive(milliseconds: 0) != nil {}
        let frame = plainFrame(100, seed: 5)
        data.region.write(frame, at: 63 * 4096)
        send([request(page: 63, size: 100, id: 999)])
        _ = try answers(1)
        return try pair.backWire.receive()?.frame == frame
    }

    func close() throws {
        try store.write(path + "/state", "6")
        try wait(for: [.closed])
        bell.close()
        controlBell.close()
        for pages in [transmitPage, receivePage, controlPage, data] { pages.withdraw() }
        store.close()
    }
}
