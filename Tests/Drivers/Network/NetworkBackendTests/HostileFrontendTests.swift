// Frontends that lie, row by row of the attack list: an error for that packet or quarantine of that interface, and
// nothing left behind.

import Hypervisor
import LinuxSystem
import MockPeers
import NetworkBackend
import NetworkProtocol
import SharedMemory
import SharedRing
import TestHosts
import Testing
import TestSupport
import XenTypes

@Suite(.timeLimit(.minutes(2)), .serialized)
struct HostileFrontendTests {
    private func connected(_ options: NetworkBackendOptions = .init(), keys: [String: String] = [:]) throws -> (
        NetworkPair, MockNetworkFrontend
    ) {
        let pair = try NetworkPair(options)
        let raw = try MockNetworkFrontend(pair, keys: keys)
        try raw.wait(for: [.connected])
        return (pair, raw)
    }

    @Test(arguments: [257, 300, 65_535, Int(UInt32.max)], ["tx", "rx", "ctrl"])
    func B1_indicesThatLie(_ lie: Int, _ ring: String) throws {
        let (pair, raw) = try connected()
        let region = (ring == "tx" ? raw.transmitPage : ring == "rx" ? raw.receivePage : raw.controlPage).region
        if ring == "rx" { try pair.backWire.send(plainFrame(60)) }
        region.storeReleasing(UInt32(lie), at: RingHeader.requestProduced)
        (ring == "ctrl" ? raw.controlBell : raw.bell).notify()
        try raw.wait(for: [.closing])
        #expect(try pair.backendError().contains("producer index"))
        try raw.close()
        pair.backend.stop()
    }

    @Test(arguments: [1, 2, 5, 18, 19, 20, 21]) func B22_oneAnswerForEachSlot(_ count: Int) throws {
        let (pair, raw) = try connected()
        let slots = (0..<count).map {
            raw.request(page: $0, size: $0 == 0 ? 100 * count : 100, flags: $0 + 1 < count ? .moreData : [], id: $0)
        }
        raw.send(slots)
        let answers = try raw.answers(count)
        #expect(answers.allSatisfy { $0.status == (count <= 19 ? .okay : .error) })
        #expect(Set(answers.map(\.id)) == Set((0..<UInt16(count))))
        if count <= 19 {
            let frame = try #require(try pair.backWire.receive()?.frame)
            #expect(frame == (0..<count).flatMap { [UInt8](repeating: UInt8($0 + 1), count: 100) })
        }
        #expect(try pair.serves(raw))
        try raw.close()
        pair.backend.stop()
    }

    @Test func B22_tooManySlotsAreTheEnd() throws {
        let (pair, raw) = try connected()
        raw.send((0..<30).map { raw.request(page: $0, size: 100, flags: .moreData, id: $0) })
        try raw.wait(for: [.closing])
        try raw.close()
        pair.backend.stop()
    }

    @Test func B2_B8_referencesThatAreNotGranted() throws {
        let (pair, raw) = try connected()
        let baseline = pair.host.usage
        for bad: UInt32 in [0, 7, 31_000, UInt32.max] {
            for place in 0..<3 {
                raw.send(
                    (0..<3).map { index in
                        var request = raw.request(
                            page: index, size: index == 0 ? 300 : 100, flags: index < 2 ? .moreData : [], id: index
                        ).request
                        if index == place { request.reference = GrantReference(bad) }
                        return TransmitSlot(request)
                    })
                #expect(try raw.answers(3).allSatisfy { $0.status == .error })
            }
        }
        #expect(pair.host.usage == baseline)
        #expect(try pair.serves(raw))
        try raw.close()
        pair.backend.stop()
    }

    @Test func B12_headersCutAtEveryByteArriveWhole() throws {
        let (pair, raw) = try connected()
        let frame = plainFrame(200, seed: 9)
        for cut in 1..<199 {
            raw.data.region.write(Array(frame[..<cut]), at: 0)
            raw.data.region.write(Array(frame[cut...]), at: 4096)
            raw.send([raw.request(page: 0, size: 200, flags: .moreData, id: 0), raw.request(page: 1, size: 200 - cut, id: 1)])
            #expect(try raw.answers(2).allSatisfy { $0.status == .okay })
            #expect(try pair.backWire.receive()?.frame == frame, "cut at \(cut)")
        }
        try raw.close()
        pair.backend.stop()
    }

    @Test func B24_marksThatDoNotFit() throws {
        let (pair, raw) = try connected()
        // Not IP, and marked blank.
        raw.data.region.write(plainFrame(100), at: 0)
        raw.send([raw.request(size: 100, flags: .checksumBlank)])
        #expect(try raw.answers(1)[0].status == .error)
        var udp = [UInt8](repeating: 0, count: 60)
        udp[12] = 8
        udp[14] = 0x45
        udp[17] = 46
        udp[23] = 17
        for (change, status) in [
            ((14, 0x45), NetworkStatus.okay), ((14, 0x4F), .error), ((14, 0x41), .error), ((23, 1), .error), ((20, 0x20), .error),
        ] {
            var frame = udp
            frame[change.0] = UInt8(change.1)
            raw.data.region.write(frame, at: 0)
            raw.send([raw.request(size: 60, flags: .checksumBlank)])
            #expect(try raw.answers(1)[0].status == status, "byte \(change.0) is \(change.1)")
        }
        // Segmentation of what is no TCP.
        raw.send([raw.request(size: 60, flags: .extraInfo), TransmitSlot(ExtraInfo(segmenting: .tcp4, size: 20))])
        #expect(try raw.answers(2).map(\.status) == [.error, .null])
        let header = try #require(try pair.backWire.receive()?.header)
        #expect(header == [1, 0, 0, 0, 0, 0, 34, 0, 6, 0])
        #expect(try pair.serves(raw))
        try raw.close()
        pair.backend.stop()
    }

    @Test func B26_multicastAddresses() throws {
        let (pair, raw) = try connected(keys: ["request-multicast-control": "1"])
        func set(_ address: UInt64, _ isAdded: Bool) throws -> NetworkStatus {
            raw.send([
                raw.request(size: 0, flags: .extraInfo),
                TransmitSlot(ExtraInfo(multicast: MACAddress(littleEndian: address), isAdded: isAdded)),
            ])
            return try raw.answers(2)[0].status
        }
        #expect(try set(0x02, true) == .error, "a single host's address")
        for index in 0..<64 { #expect(try set(1 | UInt64(index) << 8, true) == .okay) }
        #expect(try set(1, true) == .okay, "one that is there already")
        #expect(try set(1 | 64 << 8, true) == .error, "one too many")
        #expect(try set(1 | 99 << 8, false) == .okay)
        raw.post([0, 1, 2])
        var wanted = plainFrame(60)
        wanted.replaceSubrange(0..<6, with: [1, 5, 0, 0, 0, 0])
        var other = wanted
        other[1] = 200
        try pair.backWire.send(other)
        try pair.backWire.send(wanted)
        #expect(try raw.received().response.status == 60)
        #expect(raw.data.region.bytes(at: 0, count: 6) == [1, 5, 0, 0, 0, 0])
        try raw.close()
        pair.backend.stop()
    }

    @Test func B6_controlRingArguments() throws {
        let (pair, raw) = try connected()
        let reference = raw.data.references[50].rawValue
        raw.data.region.fill(50 * 4096, count: 4096)
        #expect(try raw.ask(7, 1).status == .success)
        for type: UInt16 in [0, 11, 255, 65_535] { #expect(try raw.ask(type).status == .notSupported) }
        #expect(try raw.ask(7, 2).status == .invalidParameter)
        #expect(try raw.ask(2, 16).status == .invalidParameter)
        for length: UInt32 in [0, 1, 40] { #expect(try raw.ask(3, reference, length).status == .success) }
        for length: UInt32 in [41, 4096, .max] { #expect(try raw.ask(3, reference, length).status == .bufferOverflow) }
        #expect(try raw.ask(3, 31_000, 40).status == .invalidParameter)
        for size: UInt32 in [129, 1 << 16, .max] { #expect(try raw.ask(5, size).status == .invalidParameter) }
        #expect(try raw.ask(5, 128).status == .success)
        let edges: [UInt32] = [0, 1, 127, 128, 129, 1 << 16, 1 << 31, .max]
        for count in edges {
            for offset in edges {
                let fits = UInt64(count) + UInt64(offset) <= 128
                #expect(
                    try raw.ask(6, reference, count, offset).status == (fits ? .success : .invalidParameter),
                    "\(count) from \(offset)")
            }
        }
        raw.data.region.store(UInt32(1), at: 50 * 4096)
        #expect(try raw.ask(6, reference, 1, 0).status == .invalidParameter, "a queue that is not there")
        #expect(try pair.serves(raw))
        try raw.close()
        pair.backend.stop()
    }

    /// Packets that are copied one behind the other, the second of them from no page's beginning: no copy crosses a
    /// page on our side either, which a hypervisor refuses.
    @Test func B14_copiesCrossNoPageWhereverTheyBegin() throws {
        let (pair, raw) = try connected()
        let frames = [plainFrame(100, seed: 1), plainFrame(4096, seed: 2), plainFrame(3000, seed: 3)]
        for (page, frame) in frames.enumerated() { raw.data.region.write(frame, at: page * 4096) }
        raw.send(frames.enumerated().map { raw.request(page: $0, size: $1.count, id: $0) })
        #expect(try raw.answers(3).map(\.status) == [.okay, .okay, .okay])
        for frame in frames { expectSame(try pair.backWire.receive()?.frame ?? [], frame) }
        try raw.close()
        pair.backend.stop()
    }

    @Test func B30_mappingsAreBoundedAndGivenBack() throws {
        var options = NetworkBackendOptions()
        options.grantMappings = 20
        let (pair, raw) = try connected(options)
        let baseline = pair.host.usage
        #expect(try raw.ask(8, 0).data == 20)
        #expect(try raw.ask(8, 1).status == .invalidParameter)
        let list = raw.data.references[60].rawValue
        raw.data.region.store(GrantMappingEntry(reference: raw.data.references[0], isReadOnly: false).word, at: 60 * 4096)
        #expect(try raw.ask(9, 1, list, 1).status == .invalidParameter, "a queue that is not there")
        #expect(try raw.ask(9, 0, list, 1).status == .success)
        #expect(try raw.ask(9, 0, list, 1).status == .invalidParameter, "mapped already")
        #expect(try raw.ask(10, 0, list, 1).status == .success)
        for index in 0..<30 {
            raw.data.region.store(
                GrantMappingEntry(reference: raw.data.references[index], isReadOnly: false).word, at: 60 * 4096 + 8 * index)
        }
        for count: UInt32 in [0, 513, .max] { #expect(try raw.ask(9, 0, list, count).status == .invalidParameter) }
        #expect(try raw.ask(9, 0, 31_000, 1).status == .invalidParameter)
        #expect(try raw.ask(9, 0, list, 30).status == .invalidParameter)
        let statuses = (0..<30).map { GrantMappingEntry(word: raw.data.region.load(60 * 4096 + 8 * $0)).status }
        #expect(statuses == [UInt16](repeating: 0, count: 20) + [UInt16](repeating: 3, count: 10))
        #expect(try raw.ask(9, 0, list, 1).status == .invalidParameter, "twice")
        #expect(try pair.serves(raw))
        #expect(try raw.ask(10, 0, list, 20).status == .success)
        #expect(pair.host.usage == baseline)
        try raw.close()
        pair.backend.stop()
    }

    /// Of a backend that keeps nothing mapped, which says so, not even the list is looked at.
    @Test func B30_mappingsThatWereNotOffered() throws {
        var options = NetworkBackendOptions()
        options.grantMappings = 0
        let (pair, raw) = try connected(options)
        #expect(try raw.ask(8, 0).data == 0)
        let list = raw.data.references[60].rawValue
        let entry = GrantMappingEntry(reference: raw.data.references[0], isReadOnly: false, status: 0xABCD)
        raw.data.region.store(entry.word, at: 60 * 4096)
        for kind: UInt16 in [9, 10] { #expect(try raw.ask(kind, 0, list, 1).status == .invalidParameter) }
        #expect(raw.data.region.load(60 * 4096, as: UInt64.self) == entry.word)
        #expect(try pair.serves(raw))
        try raw.close()
        pair.backend.stop()
    }

    @Test func B27_receivePagesThatCannotBeWritten() throws {
        let (pair, raw) = try connected()
        let frame = plainFrame(5000, seed: 3)
        _ = raw.receive.push(ReceiveRequest(id: 1, reference: raw.data.references[0]))
        _ = raw.receive.push(ReceiveRequest(id: 2, reference: GrantReference(31_000)))
        _ = raw.receive.publish()
        raw.bell.notify()
        try pair.backWire.send(frame)
        for id: UInt16 in [1, 2] {
            let response = try raw.received().response
            #expect(response.id == id && response.status == -1)
        }
        raw.post([4, 5])
        try pair.backWire.send(frame)
        #expect(try raw.received().response.status == 4096)
        #expect(try raw.received().response.status == 904)
        expectSame(raw.data.region.bytes(at: 4 * 4096, count: 5000), frame)
        // attacks.md B32: nothing behind the frame's end was touched.
        #expect(raw.data.region.load(4 * 4096 + 5000, as: UInt8.self) == 6)
        try raw.close()
        pair.backend.stop()
    }

    /// A frame that waited takes the pages that came; the one behind it must count again and not use what is gone.
    @Test func B10_framesThatWaitTakePagesInTurn() throws {
        let (pair, raw) = try connected()
        let list = raw.data.references[60].rawValue
        for index in 0..<60 {
            raw.data.region.store(
                GrantMappingEntry(reference: raw.data.references[index], isReadOnly: false).word, at: 60 * 4096 + 8 * index)
        }
        #expect(try raw.ask(9, 0, list, 60).status == .success)
        // Once around the ring, so that every slot has been used.
        for _ in 0..<5 {
            raw.post(Array(0..<56))
            for _ in 0..<56 { try pair.backWire.send(plainFrame(64)) }
            for _ in 0..<56 { _ = try raw.received() }
        }
        let frames = (0..<3).map { plainFrame(60_000, seed: $0) }
        raw.post(Array(0..<16))
        for frame in frames { try pair.backWire.send(frame) }
        var pages: [UInt16] = []
        func take(_ count: Int) throws {
            for _ in 0..<count { pages.append(try raw.received().response.id) }
        }
        try take(15)
        raw.post(Array(16..<36))
        try take(15)
        raw.post(Array(36..<56))
        try take(15)
        #expect(pages == Array(0..<45))
        for (index, frame) in frames.enumerated() {
            #expect(raw.data.region.bytes(at: index * 15 * 4096, count: 60_000) == frame, "frame \(index)")
        }
        try raw.close()
        pair.backend.stop()
    }

    @Test func B9_B10_aFrontendThatPostsNoPagesCostsOneFrame() throws {
        var options = NetworkBackendOptions()
        options.drainMilliseconds = 50
        let (pair, raw) = try connected(options)
        raw.post([0])
        // Two slots are needed, one is there.
        for seed in 0..<50 { try pair.backWire.send(plainFrame(5000, seed: seed)) }
        #expect(eventually { pair.backend.total.receiveExpired >= 50 })
        #expect(try raw.receive.nextResponse() == nil)
        raw.post([1, 2])
        try pair.backWire.send(plainFrame(5000, seed: 99))
        #expect(try raw.received().response.status == 4096)
        try raw.close()
        pair.backend.stop()
    }

    @Test(arguments: [
        ["multi-queue-num-queues": "0"], ["multi-queue-num-queues": "5"], ["tx-ring-ref": "31000"], ["rx-ring-ref": "x"],
        ["event-channel": "0"], ["event-channel": "4000"], ["ctrl-ring-ref": "31000"], ["request-rx-copy": "0"],
    ]) func B16_B17_B29_keysThatMakeNoSense(_ keys: [String: String]) throws {
        let pair = try NetworkPair()
        let raw = try MockNetworkFrontend(pair, keys: keys)
        try raw.wait(for: [.closing])
        #expect(try !pair.backendError().isEmpty)
        let usage = pair.host.usage
        try raw.close()
        _ = usage
        pair.backend.stop()
    }
}
