// A frontend that does as it pleases: what stands between it and the backend is only what the backend checks.

import Foundation
import Hypervisor
import InProcessHypervisor
import LinuxSystem
import SharedMemory
import SharedRing
import Toolstack
import XenBus
import XenStore
import XenWire

/// One queue's rings and doorbell.
final class RawQueue {
    let transmitPage: any OfferedPages
    let receivePage: any OfferedPages
    let bell: any EventChannel
    var transmit: FrontRing<TransmitRing>
    var receive: FrontRing<ReceiveRing>

    init(_ hypervisor: InProcessHypervisor, _ backend: DomainID) throws {
        transmitPage = try hypervisor.offerPages(1, to: backend, access: .readWrite)
        receivePage = try hypervisor.offerPages(1, to: backend, access: .readWrite)
        bell = try hypervisor.allocateChannel(for: backend)
        transmit = FrontRing(initialising: transmitPage.region, TransmitRing())
        receive = FrontRing(initialising: receivePage.region, ReceiveRing())
    }

    var keys: [String: String] {
        [
            "tx-ring-ref": "\(transmitPage.references[0])", "rx-ring-ref": "\(receivePage.references[0])",
            "event-channel": "\(bell.port)",
        ]
    }

    func close() {
        bell.close()
        transmitPage.withdraw()
        receivePage.withdraw()
    }
}

/// A hostile or merely odd frontend of the pair's interface, or of another.
final class RawVif {
    let pair: NetworkPair
    let hypervisor: InProcessHypervisor
    let store: StoreClient
    let path: String
    let backendPath: String
    let queues: [RawQueue]
    let controlPage: any OfferedPages
    let controlBell: any EventChannel
    /// Pages that the backend may read and write; page n is filled with n + 1.
    let data: any OfferedPages
    var control: FrontRing<ControlRing>

    // The first queue, which is all that most tests have.
    var transmitPage: any OfferedPages { queues[0].transmitPage }
    var receivePage: any OfferedPages { queues[0].receivePage }
    var bell: any EventChannel { queues[0].bell }
    var transmit: FrontRing<TransmitRing> {
        _read { yield queues[0].transmit }
        _modify { yield &queues[0].transmit }
    }
    var receive: FrontRing<ReceiveRing> {
        _read { yield queues[0].receive }
        _modify { yield &queues[0].receive }
    }

    /// Publishes its keys, those in `keys` instead of its own ("" removes one), and says that it is connected.
    init(
        _ pair: NetworkPair, keys: [String: String] = [:], queues count: Int = 1, paths: DevicePaths? = nil, backend: UInt16 = 0
    ) throws {
        let backend = DomainID(backend)
        self.pair = pair
        let hypervisor = pair.guest
        self.hypervisor = hypervisor
        store = try pair.guest.connectStore()
        path = (paths ?? pair.paths).frontendPath
        backendPath = (paths ?? pair.paths).backendPath
        queues = try (0..<count).map { _ in try RawQueue(hypervisor, backend) }
        controlPage = try hypervisor.offerPages(1, to: backend, access: .readWrite)
        data = try hypervisor.offerPages(64, to: backend, access: .readWrite)
        for page in 0..<64 { data.region.fill(page * 4096, count: 4096, with: UInt8(page + 1)) }
        controlBell = try hypervisor.allocateChannel(for: backend)
        control = FrontRing(initialising: controlPage.region, ControlRing())
        try wait(for: [.initWait])
        var all = [
            "ctrl-ring-ref": "\(controlPage.references[0])", "event-channel-ctrl": "\(controlBell.port)", "request-rx-copy": "1",
            "feature-rx-notify": "1", "feature-sg": "1", "feature-gso-tcpv4": "1",
        ]
        if count > 1 { all["multi-queue-num-queues"] = "\(count)" }
        for (index, queue) in queues.enumerated() {
            for (key, value) in queue.keys { all[count > 1 ? "queue-\(index)/\(key)" : key] = value }
        }
        all.merge(keys) { $1 }
        try store.atomically { access throws(XenbusError) in
            for name in try access.names(path) where name.hasPrefix("queue-") || all[name] == "" || name == "multi-queue-num-queues"
            {
                try access.discardNode(path + "/" + name)
            }
            for (key, value) in all where value != "" { try access.put(path + "/" + key, value) }
            try access.put(path + "/state", "4")
        }
    }

    func state() throws -> XenbusState { try store.state(of: backendPath) }

    func wait(for states: [XenbusState], milliseconds: Int64 = 5000) throws {
        guard try eventually(milliseconds, { states.contains(try state()) }) else {
            throw TimedOut("backend is in \(try state()), not in \(states); it says: \(pair.backend.log)")
        }
    }

    /// What the backend left in its error node.
    func error() throws -> String { try pair.toolstack.store.value("/local/domain/0/error/backend/vif/1/0/error") ?? "" }

    /// Pushes slots and rings.
    func send(_ slots: [TransmitSlot], queue: Int = 0) {
        for slot in slots { _ = queues[queue].transmit.push(slot) }
        if queues[queue].transmit.publish() { queues[queue].bell.notify() }
    }

    /// The next answers, waited for.
    func answers(_ count: Int, queue: Int = 0, milliseconds: Int64 = 3000) throws -> [TransmitResponse] {
        var found: [TransmitResponse] = []
        let deadline = monotonicMilliseconds() + milliseconds
        while found.count < count {
            if let response = try queues[queue].transmit.nextResponse() {
                found.append(response)
            } else {
                _ = queues[queue].transmit.armAndRecheck()
                guard monotonicMilliseconds() < deadline else { throw TimedOut("\(found.count) of \(count) answers") }
                usleep(20)
            }
        }
        return found
    }

    func request(page: Int = 0, offset: Int = 0, size: Int, flags: TransmitFlags = [], id: Int = 0) -> TransmitSlot {
        TransmitSlot(
            TransmitRequest(
                reference: data.references[page], offset: UInt16(offset), flags: flags, id: UInt16(id), size: UInt16(size)))
    }

    func post(_ pages: [Int], queue: Int = 0) {
        for page in pages { _ = queues[queue].receive.push(ReceiveRequest(id: UInt16(page), reference: data.references[page])) }
        if queues[queue].receive.publish() { queues[queue].bell.notify() }
    }

    func received(queue: Int = 0, milliseconds: Int64 = 3000) throws -> ReceiveSlot {
        let deadline = monotonicMilliseconds() + milliseconds
        while true {
            if let slot = try queues[queue].receive.nextResponse() { return slot }
            _ = queues[queue].receive.armAndRecheck()
            guard monotonicMilliseconds() < deadline else { throw TimedOut("nothing received") }
            usleep(20)
        }
    }

    func ask(_ type: UInt16, _ data0: UInt32 = 0, _ data1: UInt32 = 0, _ data2: UInt32 = 0) throws -> ControlResponse {
        _ = control.push(ControlRequest(id: 77, rawType: type, data0, data1, data2))
        if control.publish() { controlBell.notify() }
        return try controlAnswer(type)
    }

    func controlAnswer(_ type: UInt16) throws -> ControlResponse {
        let deadline = monotonicMilliseconds() + 3000
        while true {
            if let response = try control.nextResponse() { return response }
            _ = control.armAndRecheck()
            guard monotonicMilliseconds() < deadline else { throw TimedOut("no answer to control request \(type)") }
            usleep(20)
        }
    }

    /// Has the backend keep data pages mapped.
    func map(_ pages: [Int], queue: Int = 0, list: Int = 62) throws {
        for (index, page) in pages.enumerated() {
            let entry = GrantMappingEntry(reference: data.references[page], isReadOnly: false)
            data.region.store(entry.word, at: list * 4096 + 8 * index)
        }
        let answer = try ask(9, UInt32(queue), data.references[list].rawValue, UInt32(pages.count))
        guard answer.status == .success else { throw TimedOut("pages to be mapped: \(answer)") }
    }

    /// A well-formed frame still goes through.
    func isServed(queue: Int = 0) throws -> Bool {
        while try pair.backWire.receive(milliseconds: 0) != nil {}
        let frame = plainFrame(100, seed: 5)
        data.region.write(frame, at: 63 * 4096)
        send([request(page: 63, size: 100, id: 999)], queue: queue)
        _ = try answers(1, queue: queue)
        return try pair.backWire.receive()?.frame == frame
    }

    /// Goes to state 6, waits until the backend has let go, and takes everything back.
    func close() throws {
        try store.write(path + "/state", "6")
        try wait(for: [.closed])
        release()
    }

    /// Takes everything back whatever the backend does.
    func release() {
        for queue in queues { queue.close() }
        controlBell.close()
        for pages in [controlPage, data] { pages.withdraw() }
        store.close()
    }

    /// Closes, and asks for a new start.
    func closeForAnother() throws {
        try store.write(path + "/state", "6")
        try wait(for: [.closed])
        try store.write(path + "/state", "1")
        try wait(for: [.initWait])
        release()
    }
}
