// A client's end of the wire: one thread reads, any thread asks. A server that breaks the protocol loses the
// connection; it cannot make the client trap, grow or answer the wrong question (attacks.md D13, XS35).

import Glibc
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

    private let descriptor: Descriptor
    private let isSocket: Bool
    private let time: any TimeSource
    private let stop: WakePipe
    private let state = Monitor(State())
    /// One message at a time on the wire.
    private let sending = Mutex(())
    private let thread = Mutex<WorkerThread?>(nil)

    init(_ descriptor: Descriptor, _ time: any TimeSource) throws(StoreError) {
        self.descriptor = descriptor
        self.time = time
        isSocket = descriptor.isSocket
        do { stop = try WakePipe() } catch { throw .disconnected("no pipe: \(error)") }
        do {
            // The thread must not keep this object alive, and need not: it is joined before the object goes.
            let reader = StoreLinkReader(descriptor: descriptor.rawValue, stop: stop.reader.rawValue, time: time)
            let started = try WorkerThread(name: "xenstore", blocksSignals: true) { [unowned self] in
                reader.run(deliver: { self.deliver($0) }, end: { self.end($0) })
            }
            thread.withLock { $0 = started }
        } catch {
            throw .disconnected("no thread: \(error)")
        }
    }

    /// Ends the connection and the thread. Called by the owner's deinit at the latest.
    func close() {
        end("closed")
        signalPipe(stop.writer)
        // Also ends a send that waits for a server that does not read.
        if isSocket { descriptor.shutDown() }
        let running = thread.withLock { $0.take() }
        running?.join()
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
        let reply = try state.wait { state throws(StoreError) -> StoreMessage? in
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
            var rest = bytes[...]
            do {
                while !rest.isEmpty {
                    let part = rest
                    rest = rest.dropFirst(
                        try outlastingShortage(time) { () throws(Errno) in
                            try StreamSocket.send(descriptor.rawValue, part, isSocket: isSocket, wait: true)
                        })
                }
            } catch {
                end("cannot send: \(error)")
            }
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

    // MARK: Receiving, on the reader's thread

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

    /// - Parameter deadline: as `Monitor.wait` has it.
    func nextEvent(until deadline: UInt64?) throws(StoreError) -> WatchEvent? {
        enum Outcome { case event(WatchEvent), woken }
        let outcome = try state.wait(until: deadline) { state throws(StoreError) -> Outcome? in
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

/// The reading side: cuts what arrives into messages until told to stop.
struct StoreLinkReader: Sendable {
    let descriptor: Int32
    let stop: Int32
    let time: any TimeSource

    func run(deliver: (StoreMessage) -> Bool, end: (String) -> Void) {
        var parser = StoreMessageParser()
        while true {
            do {
                var entries = [
                    pollfd(fd: descriptor, events: Int16(POLLIN), revents: 0), pollfd(fd: stop, events: Int16(POLLIN), revents: 0),
                ]
                _ = try outlastingShortage(time) { () throws(Errno) in try waitForEvents(&entries, milliseconds: -1) }
                if entries[1].revents != 0 { return }
                guard entries[0].revents != 0 else { continue }
                let bytes = try outlastingShortage(time) { () throws(Errno) in
                    try StreamSocket.receive(descriptor, capacity: 65536, wait: true)
                }
                if bytes.isEmpty { return end("the server closed the connection") }
                parser.append(bytes)
                while let message = try parser.next() {
                    guard deliver(message) else { return }
                }
            } catch let error as StoreProtocolViolation {
                return end("the server sent a message of \(error.length) bytes")
            } catch {
                return end("cannot receive: \(error)")
            }
        }
    }
}
