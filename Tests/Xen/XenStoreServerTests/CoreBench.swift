// Drives a StoreCore without sockets: each request is answered before the next, and time stands still unless told
// otherwise.

import Testing
@testable import XenStore
@testable import XenStoreServer
import XenTypes

/// A store and its peers, in one thread.
final class CoreBench {
    var core: StoreCore
    var now: UInt64 = 1_000_000_000

    init(_ limits: StoreLimits = StoreLimits()) { core = StoreCore(limits: limits) }

    func peer(_ domain: UInt16) -> CorePeer { CorePeer(self, core.connect(domain: DomainID(domain))) }

    func expectSound(_ location: SourceLocation = #_sourceLocation) {
        #expect(core.checkInvariants() == [], sourceLocation: location)
    }
}

/// One peer of a bench.
final class CorePeer {
    private let bench: CoreBench
    let id: StoreConnectionID
    private var parser = StoreMessageParser()
    private var replies: [StoreMessage] = []
    private(set) var events: [WatchEvent] = []
    private var lastRequest: UInt32 = 0

    init(_ bench: CoreBench, _ id: StoreConnectionID) {
        self.bench = bench
        self.id = id
    }

    var isConnected: Bool { bench.core.connections[id] != nil }

    /// Sends bytes as they are.
    func send(_ bytes: [UInt8]) { bench.core.feed(bytes, from: id, now: bench.now) }

    /// Reads all there is to read.
    func receive() {
        while true {
            let bytes = bench.core.output(id)
            if bytes.isEmpty { return }
            bench.core.didSend(bytes.count, to: id)
            parser.append(bytes)
            while let message = try? parser.next() {
                guard message.type == StoreMessageType.watchEvent.rawValue else {
                    replies.append(message)
                    continue
                }
                let parts = message.payload.dropLast().split(separator: 0, omittingEmptySubsequences: false)
                events.append(
                    WatchEvent(path: String(decoding: parts[0], as: UTF8.self), token: String(decoding: parts[1], as: UTF8.self)))
            }
        }
    }

    /// The events since the last call.
    func takeEvents() -> [WatchEvent] {
        receive()
        defer { events = [] }
        return events
    }

    /// The next reply, nil if there is none.
    func reply() -> StoreMessage? {
        receive()
        return replies.isEmpty ? nil : replies.removeFirst()
    }

    /// One request and its reply: the payload, or the error's name.
    @discardableResult
    func ask(_ type: StoreMessageType, _ strings: [String], _ rest: [UInt8] = [], in transaction: UInt32 = 0) -> Answer {
        ask(raw: type.rawValue, wireStrings(strings) + rest, in: transaction)
    }

    @discardableResult
    func ask(raw type: UInt32, _ payload: [UInt8], in transaction: UInt32 = 0) -> Answer {
        lastRequest += 1
        send(StoreMessage(rawType: type, request: lastRequest, transaction: transaction, payload: payload).bytes)
        guard let reply = reply() else { return .none }
        #expect(reply.request == lastRequest && reply.transaction == transaction)
        if reply.type == StoreMessageType.error.rawValue {
            return .error(String(decoding: reply.payload.dropLast(), as: UTF8.self))
        }
        #expect(reply.type == type)
        return .okay(reply.payload)
    }

    @discardableResult
    func write(_ path: String, _ value: String = "", in transaction: UInt32 = 0) -> Answer {
        ask(.write, [path], Array(value.utf8), in: transaction)
    }
    @discardableResult
    func remove(_ path: String, in transaction: UInt32 = 0) -> Answer { ask(.remove, [path], in: transaction) }
    func read(_ path: String, in transaction: UInt32 = 0) -> Answer { ask(.read, [path], in: transaction) }
    @discardableResult
    func set(_ path: String, _ permissions: String..., in transaction: UInt32 = 0) -> Answer {
        ask(.setPermissions, [path] + permissions, in: transaction)
    }
    @discardableResult
    func watch(_ path: String, _ token: String = "t") -> Answer { ask(.watch, [path, token]) }
    func begin() -> UInt32 { UInt32(ask(.transactionStart, [""]).text) ?? 0 }
    @discardableResult
    func end(_ transaction: UInt32, commit: Bool = true) -> Answer {
        ask(.transactionEnd, [commit ? "T" : "F"], in: transaction)
    }
}

/// What came back.
enum Answer: Equatable, CustomStringConvertible {
    case okay([UInt8]), error(String), none

    static let done = Answer.okay(Array("OK\0".utf8))
    static func value(_ text: String) -> Answer { .okay(Array(text.utf8)) }

    /// A payload's text without a final NUL; an error's name.
    var text: String {
        switch self {
        case .okay(let payload): String(decoding: payload.last == 0 ? payload.dropLast() : payload[...], as: UTF8.self)
        case .error(let name): name
        case .none: "no reply"
        }
    }
    var description: String { text }
}
