// A hostile guest for the lab: section B of Docs/attacks.md and some of section D, one connection each. Prints a line
// for each row and fails if the backend does anything but refuse, close, or serve on.

import Glibc
import Libxen
import LinuxSystem
import NetworkProtocol
import SharedMemory
import SharedRing
import XenTypes

/// What is to come of an attack.
enum Outcome: Sendable {
    /// The backend closes the interface.
    case closed
    /// The attack itself looks at the answers; afterwards frames are taken as ever.
    case served
}

struct Attack: Sendable {
    let name: String
    let keys: [String: String]
    let outcome: Outcome
    let run: @Sendable (Interface) throws -> Void

    init(
        _ name: String, _ outcome: Outcome, keys: [String: String] = [:],
        _ run: @escaping @Sendable (Interface) throws -> Void = { _ in }
    ) {
        self.name = name
        self.outcome = outcome
        self.keys = keys
        self.run = run
    }
}

struct Unexpected: Error, CustomStringConvertible {
    let description: String
}

func expect(_ condition: Bool, _ text: @autoclosure () -> String) throws {
    if !condition { throw Unexpected(description: text()) }
}

let attacks: [Attack] = [
    Attack("B1: tx index", .closed) { raw in
        raw.transmitPage.region.storeReleasing(300, at: RingHeader.requestProduced)
        raw.bell.notify()
    },
    Attack("B1: rx index", .closed) { raw in
        raw.receivePage.region.storeReleasing(1 << 31, at: RingHeader.requestProduced)
        raw.bell.notify()
    },
    Attack("B1: control index", .closed) { raw in
        raw.controlPage.region.storeReleasing(.max, at: RingHeader.requestProduced)
        raw.controlBell.notify()
    },
    Attack("B28: rx index goes back", .closed) { raw in
        for page in 0..<4 { _ = raw.receive.push(ReceiveRequest(id: UInt16(page), reference: raw.data.references[page])) }
        _ = raw.receive.publish()
        raw.bell.notify()
        SystemTime().sleep(milliseconds: 500)
        raw.receivePage.region.storeReleasing(1, at: RingHeader.requestProduced)
        raw.bell.notify()
    },
    Attack("B2, B8: references that are not granted", .served) { raw in
        // 0 and 1 are granted to dom0 in every guest: the console's and the store's pages (xen/grant_table.h,
        // GNTTAB_RESERVED_CONSOLE).
        for bad: UInt32 in [7, 31_000, .max] {
            for place in 0..<3 {
                raw.send(
                    (0..<3).map { index in
                        raw.request(
                            page: index, reference: index == place ? bad : nil, size: index == 0 ? 300 : 100,
                            flags: index < 2 ? .moreData : [], id: index)
                    })
                let answers = try raw.answers(3)
                try expect(answers == [.error, .error, .error], "\(answers) to reference \(bad)")
            }
        }
    },
    Attack("B14: past the page's end", .closed) { $0.send([$0.request(offset: 4000, size: 200)]) },
    Attack("B15, B25: sizes", .served) { raw in
        for size in [0, 1, 13] {
            raw.send([raw.request(size: size)])
            let answers = try raw.answers(1)
            try expect(answers == [.error], "\(answers) to \(size) bytes")
        }
        for second in [0, 300] {
            raw.send([raw.request(size: 200, flags: .moreData), raw.request(page: 1, size: second)])
            let answers = try raw.answers(2)
            try expect(answers == [.error, .error], "\(answers) to a continuation of \(second)")
        }
    },
    Attack("B22: slot counts", .served) { raw in
        for count in [1, 18, 19, 20, 21] {
            raw.send(
                (0..<count).map { index in
                    raw.request(
                        page: index, size: index == 0 ? 100 * count : 100, flags: index + 1 < count ? .moreData : [], id: index)
                })
            let answers = try raw.answers(count)
            let wanted: NetworkStatus = count <= 19 ? .okay : .error
            try expect(answers.count == count && answers.allSatisfy { $0 == wanted }, "\(answers) to \(count) slots")
        }
    },
    Attack("B22: far too many slots", .closed) { raw in
        raw.send((0..<30).map { raw.request(page: $0, size: 100, flags: .moreData, id: $0) })
    },
    Attack("B25: a packet that does not end", .closed) { $0.send([$0.request(size: 200, flags: .moreData)]) },
    Attack("B23: extras that do not end", .closed) { raw in
        var extra = ExtraInfo(segmenting: .tcp4, size: 1000)
        extra.hasMore = true
        raw.send([raw.request(size: 200, flags: .extraInfo), TransmitSlot(extra)])
    },
    Attack("B23: an extra of no type", .closed) { raw in
        raw.send([raw.request(size: 200, flags: .extraInfo), TransmitSlot(ExtraInfo(word: 200))])
    },
    Attack("B23: an extra twice", .closed) { raw in
        var extra = ExtraInfo(segmenting: .tcp4, size: 1000)
        extra.hasMore = true
        raw.send([raw.request(size: 200, flags: .extraInfo), TransmitSlot(extra), TransmitSlot(extra)])
    },
    Attack("B24: segments of no size", .closed) { raw in
        raw.send([raw.request(size: 200, flags: .extraInfo), TransmitSlot(ExtraInfo(segmenting: .tcp4, size: 0))])
    },
    Attack("B24: marks that do not fit", .served) { raw in
        raw.data.region.write(Interface.frame(200), at: 0)
        raw.send([raw.request(size: 200, flags: .checksumBlank)])
        var answers = try raw.answers(1)
        try expect(answers == [.error], "\(answers) to a blank checksum of nothing")
        raw.send([raw.request(size: 200, flags: .extraInfo), TransmitSlot(ExtraInfo(segmenting: .tcp4, size: 20))])
        answers = try raw.answers(2)
        try expect(answers == [.error, .null], "\(answers) to segments of nothing")
    },
    Attack("B27: receive pages that cannot be written", .served) { raw in
        let bad = [GrantReference(31_000), raw.readOnly.references[0]]
        for (id, reference) in bad.enumerated() { _ = raw.receive.push(ReceiveRequest(id: UInt16(id), reference: reference)) }
        if raw.receive.publish() { raw.bell.notify() }
        raw.bell.notify()
        // Somebody on the bridge asks for addresses all the time.
        for _ in bad {
            let response = try raw.received().response
            try expect(response.status < 0, "\(response)")
        }
    },
    Attack("B6, B30: control ring", .served) { raw in
        for (count, offset) in [(1, 128), (129, 0), (UInt32.max, 1), (1, UInt32.max), (1 << 31, 1 << 31)] as [(UInt32, UInt32)] {
            let status = try raw.ask(6, raw.data.references[0].rawValue, count, offset)
            try expect(status == .invalidParameter, "mapping \(count) from \(offset): \(String(describing: status))")
        }
        for type: UInt16 in [0, 11, .max] {
            let status = try raw.ask(type)
            try expect(status == .notSupported, "type \(type): \(String(describing: status))")
        }
        try expect(try raw.ask(3, 31_000, 40) == .invalidParameter, "a key that is not granted")
        try expect(try raw.ask(9, 0, 31_000, 4) == .invalidParameter, "a list that is not granted")
    },
    Attack("D1: a storm of events", .served) { raw in
        for _ in 0..<20_000 { raw.bell.notify() }
    },
    Attack("B16: no queues", .closed, keys: ["multi-queue-num-queues": "0"]),
    Attack("B16: more queues than there are", .closed, keys: ["multi-queue-num-queues": "4000000000"]),
    Attack("B17: a ring that is not granted", .closed, keys: ["rx-ring-ref": "31000"]),
    Attack("B17: a port that is not there", .closed, keys: ["event-channel": "4000"]),
    Attack("B29: no copying", .closed, keys: ["request-rx-copy": "0"]),
]

@main
struct HostileNetfront {
    static func main() throws {
        let hypervisor = try LibxenHypervisor(time: .system)
        var failed = 0
        for attack in attacks {
            do {
                let raw = try Interface(hypervisor, keys: attack.keys)
                defer { try? raw.close() }
                if attack.keys.isEmpty { try raw.wait([.connected]) }
                try attack.run(raw)
                switch attack.outcome {
                case .closed: try raw.wait([.closing])
                case .served: try expect(try raw.isServed(), "no service afterwards")
                }
                print("ok    \(attack.name)")
            } catch {
                failed += 1
                print("FAIL  \(attack.name): \(error)")
            }
            // What came of each attack is seen even if the next one hangs.
            _ = fflush(nil)
        }
        let raw = try Interface(hypervisor)
        try raw.wait([.connected])
        try expect(try raw.isServed(), "no service in the end")
        try raw.close()
        print("\(attacks.count - failed) of \(attacks.count) attacks came to nothing")
        if failed > 0 { exit(1) }
    }
}
