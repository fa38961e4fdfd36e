// A client's end of the wire: whoever has an answer delivers it, any thread asks. A server that breaks the protocol
// loses the connection; it cannot make the client trap, grow or answer the wrong question (attacks.md D13, XS35).

import LinuxSystem
import Synchronization

/// Requests matched to replies by number, and the events between them.
final class StoreLink: Sendable {
    private struct State {
        /// Requests sent; a reply once it is there.
        var open: [UInt32: (type: StoreMessageType, reply: StoreMessage?)] = [:]
        var lastRequest: UInt32 = 0
        var events = StoreEventQueue()
        var isWoken = false
        /// Why the connection is gone.
        var failure: String?
    }

    private let line: any StoreLine
    private let time: any TimeSource
    private let state = Monitor(State())
    /// One message at a time on the wire.
    private let sending = Mutex(())

    init(_ line: some StoreLine, _ time: any TimeSource) throws(StoreError) {
        self.line = line
        self.time = time
        // The line must not keep this object alive, and need not: it is closed before the object goes.
        try line.open(deliver: { [unowned self] in deliver($0) }, end: { [unowned self] in end($0) })
    }

    /// Ends the connection. Called by the owner's deinit at the latest.
    func close() {
        end("closed")
        line.close()
    }

    // MARK: Asking

    /// Sends a request and waits for its reply's payload.
    func ask(
        _ type: StoreMessageType, transaction: UInt32 = 0, strings: [String], about path: String
    ) throws(StoreError) -> [UInt8] {
        for string in strings where string.utf8.contains(0) { throw .invalid("a NUL inside", path: path) }
        return try ask(type, transaction: transaction, payload: wireStrings(strings), about: path)
    }

    func ask(
        _ type: StoreMessageType, transaction: UInt32, payload: [UInt8], about path: String
    ) throws(StoreError) -> [UInt8] {
        guard payload.count <= StoreWire.payloadMax else {
            throw .invalid("\(payload.count) bytes, more than \(StoreWire.payloadMax)", path: path)
        }
        let number = try state.change { state throws(StoreError) in
            if let failure = state.failure { throw .disconnected(failure) }
            repeat { state.lastRequest &+= 1 } while state.open[state.lastRequest] != nil
            state.open[state.lastRequest] = (type, nil)
            return state.lastRequest
        }
        send(StoreMessage(type, request: number, transaction: transaction, payload: payload).bytes)
        let reply = try wait(milliseconds: -1) { state throws(StoreError) -> StoreMessage? in
            if let reply = state.open[number]?.reply {
                state.open[number] = nil
                return reply
            }
            if let failure = state.failure {
                state.open[number] = nil
                throw .disconnected(failure)
            }
            return nil
        }
        guard let reply else { throw .disconnected("no reply") }
        if reply.type == StoreMessageType.error.rawValue { throw .refused(errorName(reply.payload), path: path) }
        return reply.payload
    }

    private func send(_ bytes: [UInt8]) {
        sending.withLock { _ in
            do throws(Errno) { try line.send(bytes) } catch { end("cannot send: \(error)") }
        }
    }

    /// Waits until `body` has something, at most `milliseconds` (negative: for ever).
    private func wait<R: Sendable>(
        milliseconds: Int32, _ body: (inout State) throws(StoreError) -> R?
    ) throws(StoreError) -> R? {
        if !line.comesByItself { return try fetch(milliseconds: milliseconds, body) }
        return try state.wait(
            until: milliseconds < 0 ? nil : time.kernelDeadline(milliseconds: Int(milliseconds)), body)
    }

    /// Where nothing comes by itself: what is there is looked at, and time passes in between.
    private func fetch<R: Sendable>(
        milliseconds: Int32, _ body: (inout State) throws(StoreError) -> R?
    ) throws(StoreError) -> R? {
        let end = milliseconds < 0 ? UInt64.max : time.deadline(milliseconds: Int(milliseconds))
        while true {
            line.fetch()
            if let found = try state.change(body) { return found }
            let now = time.nanoseconds
            if now >= end { return nil }
            time.sleep(nanoseconds: min(1_000_000, end - now))
        }
    }

    /// The error's name; one that the protocol does not know counts as EINVAL (attacks.md XS35).
    private func errorName(_ payload: [UInt8]) -> String {
        let text = text(payload)
        return (StoreErrorName(rawValue: text) ?? .EINVAL).rawValue
    }

    /// A payload of one string, without its NUL.
    func text(_ payload: [UInt8]) -> String {
        String(decoding: payload.last == 0 ? payload.dropLast() : payload[...], as: UTF8.self)
    }

    /// A payload's strings.
    func strings(_ payload: [UInt8]) -> [String] {
        guard !payload.isEmpty else { return [] }
        let trimmed = payload.last == 0 ? payload.dropLast() : payload[...]
        return trimmed.split(separator: 0, omittingEmptySubsequences: false).map { String(decoding: $0, as: UTF8.self) }
    }

    /// Refuses what could not be sent as a path; the finer rules are the server's.
    func checkPath(_ path: String) throws(StoreError) {
        let bytes = path.utf8
        guard let first = bytes.first else { throw .invalid("an empty path", path: path) }
        let limit = first == UInt8(ascii: "/") ? StoreWire.absolutePathMax : StoreWire.relativePathMax
        if bytes.count > limit { throw .invalid("a path of \(bytes.count) bytes, more than \(limit)", path: path) }
        if bytes.contains(0) { throw .invalid("a NUL inside", path: path) }
    }

    // MARK: Receiving

    private func deliver(_ message: StoreMessage) -> Bool {
        state.change { state in
            guard state.failure == nil else { return false }
            if message.type == StoreMessageType.watchEvent.rawValue {
                let parts = strings(message.payload)
                guard parts.count >= 2, message.payload.last == 0 else {
                    state.failure = "an event without path and token"
                    return false
                }
                state.events.add(WatchEvent(path: parts[0], token: parts[1]))
                return true
            }
            guard let open = state.open[message.request], open.reply == nil else {
                state.failure = "a reply to request \(message.request), which is not open"
                return false
            }
            guard message.type == open.type.rawValue || message.type == StoreMessageType.error.rawValue else {
                state.failure = "a reply of type \(message.type) to a request of type \(open.type.rawValue)"
                return false
            }
            state.open[message.request] = (open.type, message)
            return true
        }
    }

    /// Marks the connection as gone, unless it is already.
    private func end(_ reason: String) {
        state.change { if $0.failure == nil { $0.failure = reason } }
    }

    /// Gives the connection up because of what the server said; the error to throw.
    func fail(_ reason: String) -> StoreError {
        end(reason)
        return .disconnected(reason)
    }

    // MARK: Events

    func expectEvents(of path: String, token: String) { state.change { $0.events.expect(path, token) } }
    func forgetEvents(of path: String, token: String) { state.change { $0.events.forget(path, token) } }
    func forgetAllEvents() { state.change { $0.events = StoreEventQueue() } }
    func wake() { state.change { $0.isWoken = true } }

    /// The next event; nil after so many milliseconds (negative: never) or a `wake`.
    func nextEvent(milliseconds: Int32) throws(StoreError) -> WatchEvent? {
        enum Outcome { case event(WatchEvent), woken }
        let outcome = try wait(milliseconds: milliseconds) { state throws(StoreError) -> Outcome? in
            if let event = state.events.take() { return .event(event) }
            if let failure = state.failure { throw .disconnected(failure) }
            guard state.isWoken else { return nil }
            state.isWoken = false
            return .woken
        }
        guard case .event(let event)? = outcome else { return nil }
        return event
    }
}
