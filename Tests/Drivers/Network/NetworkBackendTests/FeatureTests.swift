// Each feature on and off, several queues, reconnection, and the parts that need no pair.

import LinuxSystem
@testable import NetworkBackend
import NetworkFrontend
import NetworkProtocol
import Packets
import SharedMemory
import TestHosts
import Testing
import TestSupport

@Suite(.timeLimit(.minutes(2)), .serialized)
struct FeatureTests {
    private func exchange(_ pair: NetworkPair, _ sizes: [Int] = [60, 1514]) throws {
        for (seed, size) in sizes.enumerated() {
            let frame = plainFrame(size, seed: seed)
            try pair.frontWire.send(frame)
            expectSame(try pair.backWire.receive()?.frame ?? [], frame)
            try pair.backWire.send(frame)
            expectSame(try pair.frontWire.receive()?.frame ?? [], frame)
        }
    }

    @Test(arguments: [NetworkFeatures.scatterGather, .tcp4, .tcp6, .checksum4, .checksum6], [true, false])
    func oneFeatureLess(_ feature: NetworkFeatures, atTheBackend: Bool) throws {
        var back = NetworkBackendOptions()
        var front = NetworkFrontendOptions()
        if atTheBackend { back.features.remove(feature) } else { front.features.remove(feature) }
        let pair = try NetworkPair(back)
        let frontend = try pair.connect(front)
        try exchange(pair)
        frontend.close()
        pair.backend.stop()
    }

    @Test(arguments: [true, false], [true, false]) func doorbellsAndControlRing(split: Bool, control: Bool) throws {
        var options = NetworkFrontendOptions()
        options.splitChannels = split
        options.controlRing = control
        let pair = try NetworkPair()
        let frontend = try pair.connect(options)
        #expect((try pair.toolstack.store.value(pair.paths.frontendPath + "/event-channel-rx") != nil) == split)
        #expect((frontend.mappedPages > 0) == control)
        try exchange(pair)
        frontend.close()
        pair.backend.stop()
    }

    /// A blank checksum reaches a peer that takes it as it is, and one that does not with the sum filled in.
    @Test(arguments: [true, false]) func blankChecksums(taken: Bool) throws {
        var options = NetworkFrontendOptions()
        if !taken { options.features.remove(.checksum4) }
        let pair = try NetworkPair()
        let frontend = try pair.connect(options)
        var frame = [UInt8](repeating: 0, count: 60)
        frame.replaceSubrange(12..<34, with: [8, 0, 0x45, 0, 0, 46, 0, 0, 0, 0, 64, 17, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2])
        frame.replaceSubrange(34..<42, with: [0x30, 0x39, 0, 53, 0, 26, 0, 0])
        frame[50] = 0x77
        let region = try SharedRegion(anonymous: 4096)
        region.write(frame, at: 0)
        let headers = try #require(FrameHeaders(in: region, at: 0, count: 60))
        let pseudo = headers.pseudoHeaderSum(in: region, at: 0, count: 26)
        frame[40] = UInt8(pseudo >> 8)
        frame[41] = UInt8(pseudo & 0xFF)
        try pair.backWire.send(frame, header: [1, 0, 0, 0, 0, 0, 34, 0, 6, 0])
        let got = try #require(try pair.frontWire.receive())
        #expect((got.header[0] & 1 == 1) == taken)
        if taken {
            expectSame(got.frame, frame)
        } else {
            region.write(got.frame, at: 0)
            var sum = InternetChecksum()
            sum.add(region, at: 34, count: 26)
            sum.addWord(headers.pseudoHeaderSum(in: region, at: 0, count: 26))
            #expect(sum.folded == 0xFFFF)
        }
        frontend.close()
        pair.backend.stop()
    }

    @Test func severalQueuesAndAKilledBackend() throws {
        let pair = try NetworkPair(backendDomain: 5)
        var options = NetworkFrontendOptions()
        options.queues = 3
        let frontend = try pair.connect(options)
        #expect(frontend.mappedPages == 3 * 512)
        try exchange(pair)
        pair.backend.kill()
        let second = try RunningBackend(pair.host, domain: 5, device: pair.backWire.network)
        #expect(eventually(5000) { frontend.connectionCount == 2 && frontend.isLive })
        try exchange(pair)
        frontend.close()
        second.stop()
    }

    @Test func everythingIsGivenBack() throws {
        let pair = try NetworkPair()
        let baseline = pair.host.usage
        for _ in 0..<3 {
            let frontend = try pair.connect()
            try exchange(pair)
            frontend.close()
            #expect(eventually { (try? pair.node("state")) == "6" })
            try pair.toolstack.store.write(pair.paths.frontendPath + "/state", "1")
            #expect(eventually { (try? pair.node("state")) == "2" })
        }
        expectBaseline(pair.host, baseline)
        pair.backend.stop()
    }

    @Test func B31_creditLetsTheLargestFrameThroughAndNeverGoesBack() {
        var credit = Credit(CreditRate(bytes: 1000, microseconds: 1000), now: 5000)
        #expect(credit.take(131_072, now: 5000) == nil)
        #expect(credit.take(60, now: 5000) == 1000)
        #expect(credit.take(60, now: 4000) == 1000, "a clock that is set back")
        #expect(credit.take(60, now: 5999) == 1)
        #expect(credit.take(60, now: 6000) == nil)
        #expect(credit.take(941, now: 6000) != nil)
        #expect(credit.take(131_072, now: .max) == nil)
        #expect(CreditRate("1,0") == nil && CreditRate("-1,5") == nil && CreditRate("1") == nil && CreditRate("5,6")?.bytes == 5)
    }

    /// The vectors that Microsoft publishes for receive-side scaling.
    @Test func toeplitzVectors() {
        let key: [UInt8] = [
            0x6d, 0x5a, 0x56, 0xda, 0x25, 0x5b, 0x0e, 0xc2, 0x41, 0x67, 0x25, 0x3d, 0x43, 0xa3, 0x8f, 0xb0, 0xd0, 0xca, 0x2b, 0xcb,
            0xae, 0x7b, 0x30, 0xb4, 0x77, 0xcb, 0x2d, 0xa3, 0x80, 0x30, 0xf2, 0x0c, 0x6a, 0x42, 0xb7, 0x3b, 0xbe, 0xac, 0x01, 0xfa,
        ]
        let hash = ToeplitzHash(key: key)
        let four: [UInt8] = [66, 9, 149, 187, 161, 142, 100, 80]
        #expect(hash.hash(four) == 0x323e_8fc2)
        #expect(hash.hash(four + [0x0A, 0xEA, 0x06, 0xE6]) == 0x51cc_c178)
        let six: [UInt8] = [
            0x3f, 0xfe, 0x25, 0x01, 0x02, 0x00, 0x1f, 0xff, 0, 0, 0, 0, 0, 0, 0, 7,
            0x3f, 0xfe, 0x25, 0x01, 0x02, 0x00, 0x00, 0x03, 0, 0, 0, 0, 0, 0, 0, 1,
        ]
        #expect(hash.hash(six) == 0x2cc1_8cd5)
        #expect(hash.hash(six + [0x0A, 0xEA, 0x06, 0xE6]) == 0x4020_7d3d)
    }
}
