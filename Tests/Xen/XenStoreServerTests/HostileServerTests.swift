// The client against servers that lie, and against peers that flood.

import Glibc
import LinuxSystem
import Testing
@testable import XenStore
@testable import XenStoreServer

/// A server that answers as it is told to.
final class LyingServer: Sendable {
    let client: StoreClient
    private let end: Descriptor

    /// `answer` makes the bytes sent for each request; nil: close.
    init(_ answer: @escaping @Sendable (StoreMessage) -> [UInt8]?) throws {
        let (mine, theirs) = try StreamSocket.pair()
        end = mine
        client = try StoreClient(descriptor: theirs, time: .system)
        _ = try WorkerThread(name: "test", blocksSignals: true) { [mine] in
            var parser = StoreMessageParser()
            while let bytes = try? StreamSocket.receive(mine.rawValue, capacity: 4096, wait: true), !bytes.isEmpty {
                parser.append(bytes)
                while let message = try? parser.next() {
                    guard let reply = answer(message) else { return _ = shutdown(mine.rawValue, Int32(SHUT_RDWR)) }
                    // In pieces of three bytes, or at once.
                    var rest = reply[...]
                    while !rest.isEmpty {
                        let piece = rest.prefix(message.request % 2 == 0 ? 3 : 1 << 20)
                        guard let sent = try? StreamSocket.send(mine.rawValue, piece, wait: true) else { return }
                        rest = rest.dropFirst(sent)
                    }
                }
            }
        }
    }

    static func reply(_ message: StoreMessage, _ text: String) -> [UInt8] {
        StoreMessage(rawType: message.type, request: message.request, transaction: message.transaction, payload: Array(text.utf8))
            .bytes
    }

    static func event(_ path: String, _ token: String) -> [UInt8] {
        StoreMessage(.watchEvent, payload: wireStrings([path, token])).bytes
    }
}

@Suite(.serialized, .timeLimit(.minutes(1))) struct HostileServerTests {
    /// Each lie, by name: what is sent for a request.
    static let deeds: [String: @Sendable (StoreMessage) -> [UInt8]?] = [
        "closes": { _ in nil },
        "wrong request": { StoreMessage(rawType: $0.type, request: $0.request &+ 1, transaction: 0, payload: []).bytes },
        "wrong type": { StoreMessage(.write, request: $0.request, payload: []).bytes },
        "unknown type": { StoreMessage(rawType: 999, request: $0.request, transaction: 0, payload: []).bytes },
        "too long": { _ in [2, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 1, 16, 0, 0] },
        "huge length": { _ in [2, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0xFF, 0xFF, 0xFF, 0xFF] },
        // At once, so that nobody has taken the first when the second comes.
        "reply twice": { LyingServer.reply($0, "x") + ($0.request == 1 ? LyingServer.reply($0, "y") : []) },
        "event without token": { _ in StoreMessage(.watchEvent, payload: Array("/a\0".utf8)).bytes },
        "empty event": { _ in StoreMessage(.watchEvent, payload: []).bytes },
    ]

    @Test(
        "D13, XS35: a server that breaks the protocol loses the connection; the client says so and stays whole",
        arguments: deeds.keys.sorted())
    func lies(_ name: String) async throws {
        let lie = try #require(Self.deeds[name])
        let server = try LyingServer(lie)
        let client = server.client
        let outcome = Elsewhere {
            for _ in 0..<5 { _ = try client.read("/x") }
            return true
        }
        await #expect(throws: StoreError.self) { try await outcome.value() }
        let again = Elsewhere { try client.read("/x") }
        do { _ = try await again.value() } catch StoreError.disconnected {} catch { Issue.record("\(error)") }
        #expect(throws: StoreError.self) { try client.nextEvent(milliseconds: 1000) }
        client.close()
    }

    @Test("D13: a reply cut short by the server's end")
    func cutShort() async throws {
        let whole = LyingServer.reply(StoreMessage(.read, request: 1), "value")
        for cut in 1..<whole.count {
            let (mine, theirs) = try StreamSocket.pair()
            let client = try StoreClient(descriptor: theirs, time: .system)
            let outcome = Elsewhere { try client.read("/x") }
            _ = try StreamSocket.receive(mine.rawValue, capacity: 4096, wait: true)
            _ = try StreamSocket.send(mine.rawValue, whole[..<cut], wait: true)
            shutdown(mine.rawValue, Int32(SHUT_RDWR))
            await #expect(throws: StoreError.disconnected("the server closed the connection")) { try await outcome.value() }
        }
    }

    @Test("XS35: an error that nobody knows counts as EINVAL; an event for an unknown token is dropped")
    func unknownErrorsAndTokens() throws {
        let server = try LyingServer { message in
            LyingServer.event("/x", "never registered")
                + StoreMessage(rawType: 16, request: message.request, transaction: 0, payload: Array("EWHATEVER\0".utf8)).bytes
        }
        #expect(throws: StoreError.refused("EINVAL", path: "/x")) { try server.client.read("/x") }
        #expect(throws: StoreError.refused("EINVAL", path: "/x")) { try server.client.read("/x") }
        #expect(try server.client.nextEvent(milliseconds: 10) == nil)
    }

    @Test("XS35: malformed answers to particular questions", arguments: ["", "\0", "-1", "99999999999", "x"])
    func malformedAnswers(_ text: String) throws {
        let server = try LyingServer { LyingServer.reply($0, text) }
        #expect(throws: StoreError.self) { try server.client.transaction { _ throws(StoreError) in } }
        let other = try LyingServer { LyingServer.reply($0, text) }
        do { _ = try other.client.permissions("/x") } catch .disconnected {} catch { Issue.record("\(error)") }
        let third = try LyingServer { message in
            message.type == StoreMessageType.directory.rawValue
                ? StoreMessage(.error, request: message.request, payload: Array("E2BIG\0".utf8)).bytes
                : LyingServer.reply(message, text)
        }
        do { _ = try third.client.directory("/x") } catch .disconnected {} catch { Issue.record("\(error)") }
    }

    @Test("XS35: a list that changes with every part ends in a conflict, not in a loop")
    func endlessList() throws {
        let counter = Counter()
        let server = try LyingServer { message in
            message.type == StoreMessageType.directory.rawValue
                ? StoreMessage(.error, request: message.request, payload: Array("E2BIG\0".utf8)).bytes
                : LyingServer.reply(message, "\(counter.next())\0name\0")
        }
        #expect(throws: StoreError.conflict(attempts: 16)) { try server.client.directory("/x") }
    }

    @Test("D4: a million toggles of a watched node while nobody takes events: one is pending")
    func toggles() throws {
        var queue = StoreEventQueue()
        queue.expect("/w", "t")
        for _ in 0..<1_000_000 { queue.add(WatchEvent(path: "/w/x", token: "t")) }
        #expect(queue.take() == WatchEvent(path: "/w/x", token: "t"))
        #expect(queue.take() == nil)
    }

    @Test("D4: ever new names below a watch: bounded, and one event on the watched path stands for all")
    func everNewNames() {
        var queue = StoreEventQueue()
        queue.expect("/w", "t")
        queue.expect("/other", "u")
        queue.add(WatchEvent(path: "/other", token: "u"))
        for index in 0..<100_000 { queue.add(WatchEvent(path: "/w/\(index)", token: "t")) }
        var taken: [WatchEvent] = []
        while let event = queue.take() { taken.append(event) }
        #expect(taken.count <= StoreEventQueue.perToken + 3)
        #expect(taken.contains(WatchEvent(path: "/w", token: "t")))
        #expect(taken.contains(WatchEvent(path: "/other", token: "u")))
    }

    @Test("D4: over the wire, a peer's toggling leaves one pending event")
    func togglesOverTheWire() throws {
        let server = StoreServer(time: .system)
        try server.start()
        let (host, other) = (try server.connectInProcess(domain: .zero), try server.connectInProcess(domain: .zero))
        try host.watch("/w", token: "t")
        for index in 0..<5000 { try other.write("/w/state", "\(index)") }
        _ = try host.read("/w/state")
        var events: [WatchEvent] = []
        while let event = try host.nextEvent(milliseconds: 50) { events.append(event) }
        #expect(Set(events).count == events.count && events.count <= 2)
    }

    @Test("D11: requests racing with a connection that closes: each returns or throws, none hangs")
    func closingRaces() async throws {
        let server = StoreServer(time: .system)
        try server.start()
        for round in 0..<30 {
            let client = try server.connectInProcess(domain: .zero)
            let workers = (0..<3).map { _ in
                Elsewhere {
                    do { while true { _ = try client.exists("/x") } } catch StoreError.disconnected { return true }
                }
            }
            try await Task.sleep(for: .microseconds(200 * round))
            client.close()
            for worker in workers { #expect(try await worker.value()) }
        }
        try await eventually { server.usage().connections == 0 }
    }

    @Test func whatCannotBeSentIsNotSent() throws {
        let server = StoreServer(time: .system)
        try server.start()
        let client = try server.connectInProcess(domain: .zero)
        for path in ["", "/a\0b", "/" + String(repeating: "x", count: 3072), String(repeating: "x", count: 2049)] {
            do { _ = try client.read(path); Issue.record("sent") } catch .invalid {} catch { Issue.record("\(error)") }
        }
        do { try client.write("/x", String(repeating: "v", count: 4094)); Issue.record("sent") } catch .invalid {}
        try client.write("/x", String(repeating: "v", count: 4093))
        #expect(try client.read("/x").utf8.count == 4093)
    }
}

/// Counts, from any thread.
final class Counter: Sendable {
    private let monitor = Monitor(0)
    func next() -> Int {
        monitor.change {
            $0 += 1; return $0
        }
    }
}
