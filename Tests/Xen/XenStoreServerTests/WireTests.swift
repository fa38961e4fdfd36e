// The wire: framing, lengths, malformed payloads.

import Testing
import TestSupport
@testable import XenStore
@testable import XenStoreServer

@Suite struct WireTests {
    @Test func aMessageSplitAnywhereIsTheSameMessage() throws {
        let message = StoreMessage(.write, request: 7, transaction: 9, payload: Array("/a\0value".utf8))
        let bytes = message.bytes
        for cut in 0...bytes.count {
            var parser = StoreMessageParser()
            parser.append(bytes[..<cut])
            if cut < bytes.count { #expect(try parser.next() == nil) }
            parser.append(bytes[cut...])
            #expect(try parser.next() == message)
            #expect(try parser.next() == nil)
            #expect(parser.bufferedCount == 0)
        }
    }

    @Test func mergedMessagesComeApart() throws {
        let messages = (0..<100).map { StoreMessage(.read, request: UInt32($0), payload: Array(repeating: 65, count: $0 * 40)) }
        var parser = StoreMessageParser()
        parser.append(messages.flatMap(\.bytes))
        for message in messages { #expect(try parser.next() == message) }
        #expect(try parser.next() == nil)
    }

    @Test(
        "XS1, XS21: a length beyond 4096 ends that connection at once; any up to 4096 is served",
        arguments: [
            0, 1, 4095, 4096, 4097, 8192, 0x3FFF_FFFF, 0x7FFF_FFFF, 0x8000_0000, 0xFFFF_FFEF, 0xFFFF_FFFF,
        ] as [UInt32])
    func lengths(_ length: UInt32) {
        let bench = CoreBench()
        let (hostile, other) = (bench.peer(1), bench.peer(2))
        var header = StoreMessage(.read, request: 1).bytes
        for byte in 0..<4 { header[12 + byte] = UInt8(truncatingIfNeeded: length >> UInt32(byte * 8)) }
        hostile.send(header)
        #expect(hostile.isConnected == (length <= 4096))
        if length <= 4096 {
            hostile.send(Array(repeating: 65, count: Int(length)))
            #expect(hostile.reply()?.type == StoreMessageType.error.rawValue)
            #expect(hostile.read("/").text == "EACCES")
        } else {
            #expect(bench.core.takeDropped().map(\.connection) == [hostile.id])
        }
        #expect(other.read("/").text == "EACCES")
        bench.expectSound()
    }

    @Test("XS29: unknown types, server-only types and stale transactions are answered, not obeyed")
    func unknownTypes() {
        let peer = CoreBench().peer(0)
        for type in [15, 16, 20, 23, 24, 25, 26, 27, 0xFFFF, UInt32.max] as [UInt32] {
            #expect(peer.ask(raw: type, Array("/\0".utf8)) == .error("ENOSYS"))
        }
        #expect(peer.ask(.read, ["/"], in: 77) == .error("ENOENT"))
    }

    @Test("XS29: payloads without NUL, empty, with too many strings: EINVAL", arguments: StoreMessageType.allCases)
    func malformedPayloads(_ type: StoreMessageType) {
        guard type != .watchEvent, type != .error, type != .transactionStart, type != .resetWatches else { return }
        let bench = CoreBench()
        let peer = bench.peer(0)
        for payload in [[], [65], Array("/a".utf8), [0], [0, 0, 0]] as [[UInt8]] {
            let answer = peer.ask(raw: type.rawValue, payload)
            let isSetTarget = type == .transactionEnd && answer == .error("ENOENT")
            #expect(answer == .error("EINVAL") || isSetTarget, "\(type) \(payload) \(answer)")
        }
        bench.expectSound()
    }

    /// What takes one string takes no second, and none that does not end, however good the first one is.
    @Test("XS29: a good path with something behind its NUL, or a last string without one: EINVAL, and nothing changes")
    func badEnds() {
        let bench = CoreBench()
        let peer = bench.peer(0)
        #expect(peer.write("/a", "1") == .done)
        let before = bench.core.tree.nodes
        let single: [StoreMessageType] = [.read, .directory, .getPermissions, .makeDirectory, .remove]
        for payload in [Array("/a\0\0".utf8), Array("/a\0/a".utf8), Array("/a\0/a\0".utf8)] {
            for type in single { #expect(peer.ask(raw: type.rawValue, payload) == .error("EINVAL"), "\(type) \(payload)") }
        }
        #expect(peer.ask(raw: StoreMessageType.setPermissions.rawValue, Array("/a\0n01".utf8)) == .error("EINVAL"))
        #expect(peer.ask(raw: StoreMessageType.directoryPart.rawValue, Array("/\000".utf8)) == .error("EINVAL"))
        #expect(peer.ask(raw: StoreMessageType.watch.rawValue, Array("/a\0tt".utf8)) == .error("EINVAL"))
        #expect(peer.ask(raw: StoreMessageType.control.rawValue, Array("check.".utf8)) == .error("EINVAL"))
        #expect(bench.core.tree.nodes == before && bench.core.usage(of: .zero).watches == 0)
        bench.expectSound()
    }

    @Test(
        "XS29: every malformed path is EINVAL for every request that takes one",
        arguments: [
            "", "a//b", "/a//b", "//", "/a/", "/a b", "/a.b", "/..", "/a/../b", "/ä", "/a\u{1}", "/a\u{7F}", "x/", "/a:b", "@a b",
        ])
    func malformedPaths(_ path: String) {
        let bench = CoreBench()
        for peer in [bench.peer(0), bench.peer(3)] {
            for type in [.read, .directory, .getPermissions, .makeDirectory, .remove] as [StoreMessageType] {
                #expect(peer.ask(type, [path]) == .error("EINVAL"), "\(type)")
            }
            #expect(peer.write(path) == .error("EINVAL"))
            #expect(peer.watch(path) == .error("EINVAL"))
            #expect(peer.set(path, "n0") == .error("EINVAL"))
            #expect(peer.ask(.directoryPart, [path, "0"]) == .error("EINVAL"))
            #expect(peer.ask(raw: StoreMessageType.read.rawValue, [0x2F, 0xFF, 0]) == .error("EINVAL"))
        }
        bench.expectSound()
    }

    @Test("XS2: a reply longer than a message is E2BIG, and comes in parts")
    func longReplies() {
        let bench = CoreBench()
        let host = bench.peer(0)
        let names = (0..<1000).map { "name-\($0)-" + String(repeating: "x", count: 60) }
        for name in names { host.write("/d/" + name) }
        #expect(host.ask(.directory, ["/d"]) == .error("E2BIG"))
        var got: [String] = []
        var offset = 0
        while true {
            guard case .okay(let payload) = host.ask(.directoryPart, ["/d", "\(offset)"]) else { break }
            #expect(payload.count <= StoreWire.payloadMax)
            let parts = payload.dropLast().split(separator: 0, omittingEmptySubsequences: false)
                .dropFirst().map { String(decoding: $0, as: UTF8.self) }
            got += parts.filter { !$0.isEmpty }
            offset += parts.filter { !$0.isEmpty }.reduce(0) { $0 + $1.utf8.count + 1 }
            if parts.last == "" { break }
        }
        #expect(got == names)
        #expect(host.write("/v", String(repeating: "v", count: 4093)) == .done)
        #expect(host.read("/v").text.utf8.count == 4093)
        #expect(host.read("/v").text.utf8.count == 4093)
    }

    @Test("XS9: a token and path that no event can hold: registered, and no event is sent")
    func hugeTokens() {
        let bench = CoreBench()
        let host = bench.peer(0)
        for (pathLength, tokenLength) in [(1, 4092), (3072, 1000), (2000, 2093), (3072, 1022), (1, 0)] {
            let path = "/" + String(repeating: "p", count: pathLength)
            guard path.utf8.count <= 3072 else { continue }
            let token = String(repeating: "t", count: tokenLength)
            #expect(host.ask(.watch, [path, token]) == .done)
            #expect(host.takeEvents() == [WatchEvent(path: path, token: token)])
        }
        let token = String(repeating: "t", count: 4080)
        #expect(host.watch("/w", token) == .done)
        _ = host.takeEvents()
        #expect(host.write("/w/" + String(repeating: "p", count: 100)) == .done)
        #expect(host.takeEvents().allSatisfy { $0.token != token })
        #expect(host.write("/w/x") == .done)
        #expect(host.takeEvents().contains { $0.token == token })
        bench.expectSound()
    }

    @Test(
        "Random bytes, one connection after another: the store stays sound and others are served", arguments: 0..<8 as Range<UInt64>
    )
    func randomBytes(_ seed: UInt64) {
        var generator = SplitMix(seed)
        let bench = CoreBench()
        let other = bench.peer(0)
        for _ in 0..<200 {
            let peer = bench.peer(UInt16.random(in: 0...2, using: &generator))
            for _ in 0..<20 where peer.isConnected {
                // Mostly a plausible header, so that the bytes behind it are looked at.
                let payload = (0..<Int.random(in: 0...40, using: &generator)).map { _ in
                    [0, 0, 47, 97, 64, 110, 48, 84, UInt8.random(in: 0...255, using: &generator)].randomElement(using: &generator)
                        ?? 0
                }
                var bytes = StoreMessage(
                    rawType: UInt32.random(in: 0...27, using: &generator), request: 1,
                    transaction: UInt32.random(in: 0...2, using: &generator), payload: payload
                ).bytes
                if Int.random(in: 0..<8, using: &generator) == 0 {
                    bytes[Int.random(in: 0..<bytes.count, using: &generator)] = UInt8.random(in: 0...255, using: &generator)
                }
                peer.send(bytes)
                peer.receive()
            }
            bench.core.disconnect(peer.id)
            #expect(other.read("/tool") == .value(""))
        }
        bench.expectSound()
        #expect(bench.core.usage().connections == 1 && bench.core.usage().transactions == 0)
    }
}
