// Every feature that the two sides of a vif agree on, each side with and without it: what is agreed, what the store
// says, and what that does to frames. The layouts of a vif's rings are the same for every ABI, of which
// NetworkLayoutTests has the C compiler's word, so no case here depends on one.

import Hypervisor
import LinuxSystem
import MockPeers
import NetworkBackend
import NetworkDevices
import NetworkFrontend
import NetworkProtocol
import SharedMemory
import Testing
import TestSupport

@Suite(.timeLimit(.minutes(3)), .serialized)
struct FeatureMatrixTests {
    /// Both sides of one case.
    struct Case: Sendable, CustomTestStringConvertible {
        var feature: NetworkFeatures
        var backend: Bool
        var frontend: Bool
        var mapped: Bool
        var agreed: Bool { backend && frontend }
        var testDescription: String {
            "\(feature): backend \(backend ? "has it" : "has it not"), frontend \(frontend ? "has it" : "has it not"), pages \(mapped ? "mapped" : "copied")"
        }
        static let all: [Case] = [NetworkFeatures.scatterGather, .tcp4, .tcp6, .checksum4, .checksum6].flatMap { feature in
            [true, false].flatMap { backend in
                [true, false].flatMap { frontend in
                    [true, false].map { Case(feature: feature, backend: backend, frontend: frontend, mapped: $0) }
                }
            }
        }
    }

    /// A pair with ports at its ends.
    private func connected(_ item: Case) throws -> (
        NetworkPair, NetworkFrontend<some Hypervisor>, inside: FramePort, outside: FramePort
    ) {
        var back = NetworkBackendOptions()
        var front = NetworkFrontendOptions()
        if !item.backend { back.features.remove(item.feature) }
        if !item.frontend { front.features.remove(item.feature) }
        front.mapsGrants = item.mapped
        let (inside, outside) = (try FramePort(name: "inside", time: .system), try FramePort(name: "outside", time: .system))
        let pair = try NetworkPair(back, backEnd: BackEnd(outside.device))
        let frontend = try NetworkFrontend(hypervisor: pair.guest, number: 0, device: inside.device, options: front)
        try frontend.connect(timeoutMilliseconds: 5000)
        return (pair, frontend, inside, outside)
    }

    /// What both agree on, from what both have.
    private func features(_ item: Case) -> NetworkFeatures {
        var set = NetworkFeatures.all
        if !item.agreed { set.remove(item.feature) }
        return set.consistent
    }

    @Test(arguments: Case.all) func everyFeatureOnEitherSide(_ item: Case) throws {
        let (pair, frontend, inside, outside) = try connected(item)
        let agreed = features(item)
        try expectKeys(pair, item)
        // Either device is told what the other side takes.
        #expect(
            inside.device.offloads == agreed.abilities.deviceOffloads && outside.device.offloads == agreed.abilities.deviceOffloads)
        for (from, to) in [(inside, outside), (outside, inside)] {
            try expectPlainFrames(from, to, agreed)
            try expectChecksums(from, to, agreed)
            try expectLargeFrames(from, to, agreed)
        }
        frontend.close()
        pair.backend.stop()
    }

    /// The store says what each side has by itself.
    private func expectKeys(_ pair: NetworkPair, _ item: Case) throws {
        let keys: [NetworkFeatures: String] = [
            .scatterGather: "feature-sg", .tcp4: "feature-gso-tcpv4", .tcp6: "feature-gso-tcpv6",
            .checksum6: "feature-ipv6-csum-offload",
            .checksum4: "feature-no-csum-offload",
        ]
        let key = try #require(keys[item.feature])
        let (word, missing) = item.feature == .checksum4 ? ("1", "1") : ("1", "0")
        for (path, has) in [(pair.paths.backendPath, item.backend), (pair.paths.frontendPath, item.frontend)] {
            let text = try pair.toolstack.store.value(path + "/" + key)
            if item.feature == .checksum4 {
                #expect(text == (has ? nil : missing))
            } else {
                #expect(text == (has ? word : missing))
            }
        }
    }

    /// Small frames go through, whatever is agreed. Frames of several pages need several slots; without them nothing
    /// arrives rather than a part.
    private func expectPlainFrames(_ from: FramePort, _ to: FramePort, _ agreed: NetworkFeatures) throws {
        for size in [60, 1514, 4096] {
            let frame = plainFrame(size, seed: size)
            try from.send(frame)
            expectSame(try to.receive(timeout: .seconds(3))?.bytes ?? [], frame, "\(size) bytes")
        }
        let jumbo = plainFrame(9014, seed: 3)
        try from.send(jumbo)
        if agreed.contains(.scatterGather) {
            expectSame(try to.receive(timeout: .seconds(3))?.bytes ?? [], jumbo)
        } else {
            let nothing = try to.receive(timeout: .milliseconds(60))
            #expect(nothing == nil, "\(nothing?.bytes.count ?? 0) bytes of a frame that does not fit")
        }
    }

    /// Blank checksums arrive blank where both can, and filled in where not; both transports.
    private func expectChecksums(_ from: FramePort, _ to: FramePort, _ agreed: NetworkFeatures) throws {
        for (version, ability) in [(4, NetworkFeatures.checksum4), (6, .checksum6)] {
            for transport in TestFrame.Transport.allCases {
                let frame = TestFrame(version: version, transport: transport, payload: 333, seed: version)
                try from.send(frame.bytes, offload: frame.blank)
                let got = try #require(try to.receive(timeout: .seconds(3)))
                if agreed.contains(ability) {
                    expectSame(got.bytes, frame.bytes)
                    #expect(got.offload.checksum == frame.blank.checksum)
                } else {
                    #expect(got.offload.checksum == nil && frame.isFinished(got.bytes), "IPv\(version) \(transport)")
                }
            }
        }
    }

    /// Large TCP frames arrive whole with their marks where both can; where not, a device would have cut them, and they
    /// are dropped.
    private func expectLargeFrames(_ from: FramePort, _ to: FramePort, _ agreed: NetworkFeatures) throws {
        for (version, ability) in [(4, NetworkFeatures.tcp4), (6, .tcp6)] {
            let frame = TestFrame(version: version, transport: .tcp, payload: 20_000, seed: version)
            try from.send(frame.bytes, offload: frame.segmented(1400))
            let got = try to.receive(timeout: agreed.contains(ability) ? .seconds(3) : .milliseconds(60))
            if agreed.contains(ability) {
                expectSame(got?.bytes ?? [], frame.bytes)
                #expect(got?.offload == frame.segmented(1400))
            } else {
                #expect(got == nil)
            }
        }
    }

    /// The features that shape the connection: doorbells, control ring, pages that stay mapped, queues. Each side with
    /// and without.
    @Test(arguments: ["split", "control", "mappings", "queues"], [(true, true), (true, false), (false, true), (false, false)])
    func everyShapeOfAConnection(_ shape: String, _ sides: (backend: Bool, frontend: Bool)) throws {
        let (backend, wanted) = sides
        var back = NetworkBackendOptions()
        var front = NetworkFrontendOptions()
        switch shape {
        case "split": (back.splitChannels, front.splitChannels) = (backend, wanted)
        case "control": (back.controlRing, front.controlRing) = (backend, wanted)
        case "mappings": (back.grantMappings, front.mapsGrants) = (backend ? 1024 : 0, wanted)
        default: (back.queues, front.queues) = (backend ? 4 : 1, wanted ? 3 : 1)
        }
        let pair = try NetworkPair(back)
        let frontend = try pair.connect(front)
        let both = backend && wanted
        func key(_ name: String) throws -> String? { try pair.toolstack.store.value(pair.paths.frontendPath + "/" + name) }
        switch shape {
        case "split":
            #expect(try (key("event-channel-rx") != nil) == both && (key("event-channel") == nil) == both)
            #expect(try pair.node("feature-split-event-channels") == (backend ? "1" : "0"))
        case "control":
            #expect(try (key("ctrl-ring-ref") != nil) == both && pair.node("feature-ctrl-ring") == (backend ? "1" : "0"))
            #expect((frontend.mappedPages > 0) == both)
        case "mappings": #expect(frontend.mappedPages == (both ? 512 : 0))
        default:
            #expect(frontend.statistics.count == (both ? 3 : 1))
            #expect(try key("multi-queue-num-queues") == (backend ? (wanted ? "3" : "1") : nil))
            #expect(try (key("queue-0/tx-ring-ref") != nil) == both)
        }
        for (seed, size) in [60, 1514, 9014].enumerated() {
            let frame = plainFrame(size, seed: seed)
            try pair.frontWire.send(frame)
            expectSame(try pair.backWire.receive()?.frame ?? [], frame)
            try pair.backWire.send(frame)
            expectSame(try pair.frontWire.receive()?.frame ?? [], frame)
        }
        frontend.close()
        pair.backend.stop()
    }

    /// Multicast control: offered or not, asked for or not. Asked for and not offered, it does not filter.
    @Test(arguments: [true, false], [true, false]) func multicastControl(backend: Bool, frontend: Bool) throws {
        var options = NetworkBackendOptions()
        options.multicastControl = backend
        let pair = try NetworkPair(options)
        let raw = try MockNetworkFrontend(pair, keys: ["request-multicast-control": frontend ? "1" : "0"])
        try raw.wait(for: [.connected])
        #expect(try pair.node("feature-multicast-control") == (backend ? "1" : "0"))
        #expect(try pair.node("feature-dynamic-multicast-control") == (backend ? "1" : "0"))
        raw.post(Array(0..<8))
        func group(_ last: UInt8) -> [UInt8] {
            var frame = plainFrame(60)
            frame.replaceSubrange(0..<6, with: [1, 0, 0x5E, 0, 0, last])
            return frame
        }
        raw.send([
            raw.request(size: 0, flags: .extraInfo),
            TransmitSlot(ExtraInfo(multicast: try #require(MACAddress("01:00:5e:00:00:07")), isAdded: true)),
        ])
        #expect(try raw.answers(2)[0].status == (backend && frontend ? .okay : .error))
        var expected: [UInt8] = []
        for last: UInt8 in [6, 7, 8] {
            try pair.backWire.send(group(last))
            if !(backend && frontend) || last == 7 { expected.append(last) }
        }
        var broadcast = group(0)
        broadcast.replaceSubrange(0..<6, with: [UInt8](repeating: 0xFF, count: 6))
        try pair.backWire.send(broadcast)
        for (page, last) in expected.enumerated() {
            #expect(try raw.received().response.status == 60)
            #expect(raw.data.region.load(page * 4096 + 5, as: UInt8.self) == last)
        }
        #expect(try raw.received().response.status == 60, "a broadcast always")
        try raw.close()
        pair.backend.stop()
    }

    /// A frontend that rings when it has posted pages is waited for; one that does not is waited for a moment.
    @Test(arguments: [true, false]) func receiveNotification(has: Bool) throws {
        var options = NetworkBackendOptions()
        options.drainMilliseconds = 5000
        options.quietDrainMilliseconds = 20
        let pair = try NetworkPair(options)
        let raw = try MockNetworkFrontend(pair, keys: ["feature-rx-notify": has ? "1" : "0"])
        try raw.wait(for: [.connected])
        raw.post([0])
        try pair.backWire.send(plainFrame(5000))
        sleepMilliseconds(150)
        #expect(pair.backend.total.receiveExpired == (has ? 0 : 1))
        raw.post([1, 2])
        if !has { try pair.backWire.send(plainFrame(5000)) }
        #expect(try raw.received().response.status == 4096)
        try raw.close()
        pair.backend.stop()
    }

    /// The hash: algorithm and kinds switched on and off by the frontend; what is hashed says so, by its most specific
    /// kind.
    @Test(arguments: [0, 1], [0, 1, 2, 3, 4, 8, 12, 15] as [UInt32]) func hashing(algorithm: UInt32, types: UInt32) throws {
        let pair = try NetworkPair()
        let raw = try MockNetworkFrontend(pair)
        try raw.wait(for: [.connected])
        raw.post(Array(0..<20))
        #expect(try raw.ask(7, 1).status == .success)
        #expect(try raw.ask(2, types).status == .success)
        #expect(try raw.ask(7, algorithm).status == .success)
        for (version, transport) in [(4, TestFrame.Transport.tcp), (4, .udp), (6, .tcp), (6, .udp)] {
            try pair.backWire.send(TestFrame(version: version, transport: transport, payload: 60).bytes)
            let response = try raw.received().response
            // 1: IPv4, 2: TCP over it; 4 and 8 the same for IPv6. In the slot stands the bit's number.
            let plain: UInt32 = version == 4 ? 1 : 4
            let number: UInt8? =
                algorithm == 0
                ? nil
                : transport == .tcp && types & plain << 1 != 0
                    ? (version == 4 ? 1 : 3) : types & plain != 0 ? (version == 4 ? 0 : 2) : nil
            #expect(response.flags.contains(.extraInfo) == (number != nil), "IPv\(version) \(transport)")
            guard response.flags.contains(.extraInfo) else { continue }
            let extra = try raw.received().extra
            #expect(extra.type == .hash && extra.byte(0) == number && extra.byte(1) == 1)
        }
        try raw.close()
        pair.backend.stop()
    }
}
