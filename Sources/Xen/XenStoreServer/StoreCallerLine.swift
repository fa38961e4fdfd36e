// a client's line to a server without a thread: each request is served by whoever sends it, before the call returns.

import LinuxSystem
import Synchronization
import XenStore
import XenTypes

/// One connection of a domain, served on its callers' threads.
final class StoreCallerLine: StoreLine {
    private let server: StoreServerLoop
    private let connection: StoreConnectionID
    private let time: any TimeSource
    private struct State {
        var deliver: (@Sendable (StoreMessage) -> Bool)?
        var end: (@Sendable (String) -> Void)?
        var parser = StoreMessageParser()
    }
    private let state = Mutex(State())

    init(_ server: StoreServerLoop, domain: DomainID, time: any TimeSource) {
        self.server = server
        self.time = time
        connection = server.mutate { $0.core.connect(domain: domain) }
    }

    var comesByItself: Bool { false }

    func open(
        deliver: @escaping @Sendable (StoreMessage) -> Bool, end: @escaping @Sendable (String) -> Void
    ) throws(StoreError) {
        state.withLock { state in
            state.deliver = deliver
            state.end = end
        }
    }

    func send(_ bytes: [UInt8]) throws(Errno) {
        let now = time.nanoseconds
        server.mutate { $0.core.feed(bytes, from: connection, now: now) }
    }

    func fetch() {
        let now = time.nanoseconds
        let (bytes, isOver) = server.mutate { state in
            _ = state.core.service(connection, now: now)
            let bytes = state.core.output(connection)
            state.core.didSend(bytes.count, to: connection)
            return (bytes, state.core.domain(of: connection) == nil)
        }
        let (messages, deliver, end) = state.withLock { state in
            state.parser.append(bytes)
            var messages: [StoreMessage] = []
            // The server's own messages are never too long.
            while let message = try? state.parser.next() { messages.append(message) }
            return (messages, state.deliver, state.end)
        }
        for message in messages where deliver?(message) == false { break }
        if isOver { end?("the server closed the connection") }
    }

    func close() {
        server.mutate { $0.core.disconnect(connection) }
        state.withLock { state in
            state.deliver = nil
            state.end = nil
        }
    }
}
