// What a connection has still to be sent: replies in order, and each watch event at most once.

import XenStore

/// Messages waiting for a reader.
struct OutputQueue: Sendable {
    private var messages: [[UInt8]] = []
    private var head = 0
    private var headSent = 0
    /// Events that wait, by their payload: a second of the same would tell the reader nothing (attacks.md D4, XS11).
    private var waitingEvents: Set<[UInt8]> = []
    /// Bytes waiting.
    private(set) var byteCount = 0

    var isEmpty: Bool { byteCount == 0 }

    mutating func reply(_ message: StoreMessage) { append(message.bytes) }

    /// Queues an event unless the same waits already.
    mutating func event(path: String, token: [UInt8]) {
        let payload = Array(path.utf8) + [0] + token + [0]
        // An event that no message can carry is not sent (attacks.md XS9).
        guard payload.count <= StoreWire.payloadMax, waitingEvents.insert(payload).inserted else { return }
        append(StoreMessage(.watchEvent, payload: payload).bytes)
    }

    private mutating func append(_ bytes: [UInt8]) {
        messages.append(bytes)
        byteCount += bytes.count
    }

    /// Up to about `limit` bytes from the front, at least one message's rest.
    func front(_ limit: Int) -> [UInt8] {
        guard head < messages.count else { return [] }
        var out = Array(messages[head][headSent...])
        var index = head + 1
        while index < messages.count, out.count + messages[index].count <= limit {
            out += messages[index]
            index += 1
        }
        return out
    }

    /// Takes `count` bytes off the front: they were sent.
    mutating func sent(_ count: Int) {
        var left = min(count, byteCount)
        byteCount -= left
        while left > 0, head < messages.count {
            let rest = messages[head].count - headSent
            guard left >= rest else {
                headSent += left
                return
            }
            left -= rest
            forgetEvent(messages[head])
            messages[head] = []
            head += 1
            headSent = 0
        }
        if head == messages.count {
            messages.removeAll(keepingCapacity: head <= 64)
            head = 0
        } else if head > 256, head > messages.count / 2 {
            messages.removeFirst(head)
            head = 0
        }
    }

    private mutating func forgetEvent(_ message: [UInt8]) {
        guard message.first == UInt8(StoreMessageType.watchEvent.rawValue) else { return }
        waitingEvents.remove(Array(message.dropFirst(StoreWire.headerSize)))
    }
}
