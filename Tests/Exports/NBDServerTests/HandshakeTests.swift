import TestSupport
import Testing

@testable import NBDServer

/// What is said before a client has its export.
@Suite struct NBDHandshakeTests {
    static let exports = [
        NBDExport(
            name: "xvda", description: "a disk", byteCount: 1 << 30, flags: [.hasFlags, .flush], preferredBlock: 4096,
            largestTransfer: 32 << 20)
    ]

    /// Everything at once, and what is answered.
    static func talk(_ bytes: [UInt8], pieces: Int = .max) -> (replies: [UInt8], event: NBDHandshake.Event, left: Int) {
        var (handshake, replies, pending) = (NBDHandshake(), [UInt8](), [UInt8]())
        var rest = bytes[...]
        var event = NBDHandshake.Event.more
        repeat {
            pending += rest.prefix(pieces)
            rest = rest.dropFirst(min(pieces, rest.count))
            let step = handshake.take(pending, exports, replies: &replies)
            pending.removeFirst(step.taken)
            event = step.event
        } while event == .more && !rest.isEmpty
        return (replies, event, pending.count + rest.count)
    }

    static func kinds(_ replies: [UInt8]) -> [UInt32] {
        var reader = BigEndianReader(replies)
        var kinds: [UInt32] = []
        while let _: UInt64 = reader.take(), let _: UInt32 = reader.take(), let kind: UInt32 = reader.take(),
            let count: UInt32 = reader.take(), reader.take(count: Int(count)) != nil
        {
            kinds.append(kind)
        }
        return kinds
    }

    @Test("an export is had by its name, by the empty name, by the old way and the new; another name is none")
    func exportsByName() {
        let hello: [UInt8] = [0, 0, 0, 3]
        for name in ["xvda", ""] {
            let go = Self.talk(hello + NBDClient.option(7, NBDClient.goData(name, [1, 2, 3])))
            #expect(go.event == .serve(0) && Self.kinds(go.replies) == [3, 3, 3, 3, 1])
            #expect(Self.talk(hello + NBDClient.option(6, NBDClient.goData(name))).event == .more)
            let old = Self.talk(hello + NBDClient.option(1, Array(name.utf8)))
            #expect(old.event == .serve(0) && old.replies == [0, 0, 0, 0, 0x40, 0, 0, 0, 0, 5])
            // A client that wants the zeroes of before gets them.
            #expect(Self.talk([0, 0, 0, 1] + NBDClient.option(1, Array(name.utf8))).replies.count == 134)
        }
        let unknown = Self.talk(hello + NBDClient.option(7, NBDClient.goData("xvdb")))
        #expect(unknown.event == .more && Self.kinds(unknown.replies) == [NBDOptionReply.unknown.rawValue])
        #expect(Self.talk(hello + NBDClient.option(1, Array("xvdb".utf8))).event == .end("no export `xvdb`"))
    }

    @Test("what is not known or malformed is refused, and the next option is heard")
    func refusals() {
        let hello: [UInt8] = [0, 0, 0, 3]
        let cases: [(UInt32, [UInt8], NBDOptionReply)] = [
            (99, [1, 2, 3], .unsupported), (5, [], .unsupported), (3, [1], .invalid), (7, [0, 0, 0, 9], .invalid),
            (7, NBDClient.goData("") + [0], .invalid), (8, [1], .invalid), (10, [], .invalid), (9, [], .invalid),
        ]
        for (number, data, reply) in cases {
            let talk = Self.talk(hello + NBDClient.option(number, data) + NBDClient.option(3, []))
            #expect(talk.event == .more && Self.kinds(talk.replies) == [reply.rawValue, 2, 1], "\(number)")
        }
        // Contexts can be asked for once replies have chunks; there are none.
        let contexts = Self.talk(hello + NBDClient.option(8, []) + NBDClient.option(10, [0, 0, 0, 0]))
        #expect(Self.kinds(contexts.replies) == [1, 1])
    }

    @Test("what makes no sense ends it: flags of another protocol, no option, an option without end; a client may go")
    func ends() {
        let hello: [UInt8] = [0, 0, 0, 3]
        #expect(Self.talk([0, 0, 1, 0]).event == .end("handshake flags 256"))
        #expect(Self.talk(hello + [UInt8](repeating: 7, count: 16)).event == .end("no option where one belongs"))
        var long = NBDClient.option(3, [])
        long.replaceSubrange(12..., with: [0, 0, 0x40, 1])
        #expect(Self.talk(hello + long).event == .end("an option of 16385 bytes; 16384 at most"))
        let abort = Self.talk(hello + NBDClient.option(2, []))
        #expect(abort.event == .end("the client goes") && Self.kinds(abort.replies) == [1])
    }

    @Test("bytes that come one by one, or with the first request behind them, come to the same")
    func pieces() {
        let bytes =
            [0, 0, 0, 3] + NBDClient.option(3, []) + NBDClient.option(99, [1]) + NBDClient.option(8, [])
            + NBDClient.option(7, NBDClient.goData("xvda", [3]))
        let whole = Self.talk(bytes)
        for size in 1...40 {
            let parts = Self.talk(bytes, pieces: size)
            #expect(parts.replies == whole.replies && parts.event == whole.event && parts.left == 0, "\(size)")
        }
        #expect(Self.talk(bytes + [1, 2, 3]).left == 3)
    }
}
