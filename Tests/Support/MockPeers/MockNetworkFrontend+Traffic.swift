// What a mock vif frontend sends, posts and asks.

import NetworkProtocol
import SharedMemory
import SharedRing
import XenTypes

extension MockNetworkFrontend {
    /// Pushes slots and rings.
    public func send(_ slots: [TransmitSlot], queue: Int = 0) {
        for slot in slots { _ = queues[queue].transmit.push(slot) }
        if queues[queue].transmit.publish() { queues[queue].bell.notify() }
    }

    /// The next `count` answers, waited for.
    /// - Throws: `MockPeerError` if fewer come in time; `RingError` if the backend's producer index cannot be.
    public func answers(_ count: Int, queue: Int = 0, milliseconds: Int64? = nil) throws -> [TransmitResponse] {
        var found: [TransmitResponse] = []
        let all: Bool? = try poll(milliseconds ?? patience.answer) {
            while found.count < count, let response = try queues[queue].transmit.nextResponse() { found.append(response) }
            if found.count == count { return true }
            _ = queues[queue].transmit.armAndRecheck()
            return nil
        }
        if all == nil { throw MockPeerError("\(found.count) of \(count) answers") }
        return found
    }

    /// A slot that names bytes of one data page.
    /// - Parameters:
    ///   - page: which of `data`.
    ///   - offset: in bytes from the page's beginning.
    ///   - size: in bytes; the whole packet's for the first slot of several.
    public func request(page: Int = 0, offset: Int = 0, size: Int, flags: TransmitFlags = [], id: Int = 0) -> TransmitSlot {
        TransmitSlot(
            TransmitRequest(
                reference: data.references[page], offset: UInt16(offset), flags: flags, id: UInt16(id), size: UInt16(size)))
    }

    /// Posts data pages to be filled, each under its own number, and rings.
    public func post(_ pages: [Int], queue: Int = 0) {
        for page in pages { _ = queues[queue].receive.push(ReceiveRequest(id: UInt16(page), reference: data.references[page])) }
        if queues[queue].receive.publish() { queues[queue].bell.notify() }
    }

    /// The next slot that the backend answered a posted page with, waited for.
    /// - Throws: `MockPeerError` if none comes in time; `RingError` if the backend's producer index cannot be.
    public func received(queue: Int = 0, milliseconds: Int64? = nil) throws -> ReceiveSlot {
        let slot: ReceiveSlot? = try poll(milliseconds ?? patience.answer) {
            if let slot = try queues[queue].receive.nextResponse() { return slot }
            _ = queues[queue].receive.armAndRecheck()
            return nil
        }
        guard let slot else { throw MockPeerError("nothing received") }
        return slot
    }

    /// The answer to one control request, of any type and with any data.
    public func ask(_ type: UInt16, _ data0: UInt32 = 0, _ data1: UInt32 = 0, _ data2: UInt32 = 0) throws -> ControlResponse {
        _ = control.push(ControlRequest(id: 77, rawType: type, data0, data1, data2))
        if control.publish() { controlBell.notify() }
        return try controlAnswer(type)
    }

    /// The next answer of the control ring, waited for.
    /// - Parameter type: what was asked, for the error.
    public func controlAnswer(_ type: UInt16) throws -> ControlResponse {
        let response: ControlResponse? = try poll(patience.answer) {
            if let response = try control.nextResponse() { return response }
            _ = control.armAndRecheck()
            return nil
        }
        guard let response else { throw MockPeerError("no answer to control request \(type)") }
        return response
    }

    /// Has the backend keep data pages mapped (`XEN_NETIF_CTRL_TYPE_ADD_GREF_MAPPING`, 9).
    /// - Parameters:
    ///   - pages: which of `data`.
    ///   - list: the page of `data` that the list of them is written into.
    public func map(_ pages: [Int], queue: Int = 0, list: Int = 62) throws {
        for (index, page) in pages.enumerated() {
            let entry = GrantMappingEntry(reference: data.references[page], isReadOnly: false)
            data.region.store(entry.word, at: list * 4096 + 8 * index)
        }
        let answer = try ask(9, UInt32(queue), data.references[list].rawValue, UInt32(pages.count))
        guard answer.status == .success else { throw MockPeerError("pages to be mapped: \(answer)") }
    }
}
