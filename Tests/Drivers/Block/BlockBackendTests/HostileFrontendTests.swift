// Frontends that lie, row by row of the attack list: an error for that request or quarantine of that device, everybody
// else is served, nothing is left behind, and no byte outside the granted pages moves.

import BlockBackend
import BlockFrontend
import BlockProtocol
import Foundation
import Hypervisor
import LinuxSystem
import MockPeers
import SharedMemory
import SharedRing
import Synchronization
import TestHosts
import Testing
import TestSupport
import Toolstack
import XenTypes

@Suite(.timeLimit(.minutes(2)))
struct HostileFrontendTests {
    static let abis: [BlockABI] = [.native, .x86_32, .x86_64]

    /// Well-formed traffic on the same device still works.
    private func expectServed(_ raw: MockBlockFrontend) throws {
        let (sector, page) = (UInt64(48), 3)
        raw.data.region.fill(page * 4096, count: 4096)
        let status = try raw.ask(raw.request(.read, sector: sector, page: page, id: 999))
        #expect(status == .okay)
        #expect(raw.data.region.load(page * 4096, as: UInt64.self) == sector)
    }

    private func fileHash(_ pair: BlockPair) throws -> Int {
        try Data(contentsOf: URL(fileURLWithPath: pair.image)).hashValue
    }

    @Test(arguments: abis) func A8_everyFirstAndLastSector(_ abi: BlockABI) throws {
        let pair = try BlockPair()
        let raw = try MockBlockFrontend(pair, abi: abi)
        for (first, last) in [
            (0, 0), (0, 7), (7, 7), (3, 5), (0, 8), (8, 8), (7, 8), (5, 3), (255, 0), (0, 255), (255, 255), (8, 0), (0, 15),
            (128, 7),
        ] {
            let status = try raw.ask(raw.request(.read, sector: 8, first: UInt8(first), last: UInt8(last)))
            #expect(status == (first <= last && last <= 7 ? .okay : .error), "\(first) to \(last)")
        }
        // The page behind the one that was read into is as it was.
        #expect(raw.data.region.load(4096, as: UInt8.self) == 2)
        try expectServed(raw)
        try raw.close()
        pair.backend.stop()
    }

    @Test(arguments: abis) func A9_everySegmentCount(_ abi: BlockABI) throws {
        let pair = try BlockPair()
        let raw = try MockBlockFrontend(pair, abi: abi)
        for count in [0, 1, 11, 12, 13, 31, 32, 33, 127, 128, 254, 255] {
            for operation in [BlockOperationCode.read, .write] {
                var request = BlockRequest(operation, id: 5, sector: 0)
                for page in 0..<min(count, 11) { request.append(BlockSegment(raw.data.references[page])) }
                request.segmentCount = UInt16(count)
                #expect(try raw.ask(request) == (count >= 1 && count <= 11 ? .okay : .error), "\(operation) with \(count)")
            }
        }
        try expectServed(raw)
        try raw.close()
        pair.backend.stop()
    }

    @Test(arguments: abis) func A9_everyIndirectSegmentCount(_ abi: BlockABI) throws {
        let pair = try BlockPair(byteCount: 8 << 20)
        let raw = try MockBlockFrontend(pair, abi: abi)
        // Page 60 describes up to 512 segments, all of them in page 0.
        for index in 0..<512 { raw.data.region.store(BlockSegment(raw.data.references[0]).word, at: 60 * 4096 + index * 8) }
        for count in [0, 1, 11, 12, 255, 256, 257, 511, 512, 513, 4095, 4096, 4097, 65535] {
            var request = BlockRequest(indirect: .read, segmentCount: UInt16(count), sector: 0, id: 6)
            for page in 0..<8 { request.setIndirectReference(page, to: raw.data.references[60]) }
            #expect(try raw.ask(request) == (count >= 1 && count <= 256 ? .okay : .error), "\(count) segments")
        }
        for inner in [BlockOperationCode.flush, .barrier, .discard, .indirect, BlockOperationCode(rawValue: 200)] {
            var request = BlockRequest(indirect: inner, segmentCount: 1, sector: 0, id: 7)
            request.setIndirectReference(0, to: raw.data.references[60])
            #expect(try raw.ask(request) == .error, "indirect \(inner)")
        }
        try expectServed(raw)
        try raw.close()
        pair.backend.stop()
    }

    @Test func A5_aBadGrantAtEachPlace_costsThatRequestAlone() throws {
        let pair = try BlockPair()
        let baseline = pair.host.usage
        for persistent in [false, true] {
            let raw = try MockBlockFrontend(pair, persistent: persistent)
            for count in 1...11 {
                for bad in 0..<count {
                    for reference in [GrantReference(0), GrantReference(7), GrantReference(31_000), GrantReference(UInt32.max)] {
                        var request = BlockRequest(.read, id: 1, sector: 0)
                        for page in 0..<count {
                            request.append(BlockSegment(page == bad ? reference : raw.data.references[page]))
                        }
                        // A good one in the same batch must not suffer.
                        let good = raw.request(.read, sector: 16, page: 20, id: 2)
                        _ = raw.front.push(request)
                        _ = raw.front.push(good)
                        if raw.front.publish() { raw.channel.notify() }
                        let answers = [try raw.receive(), try raw.receive()]
                        #expect(answers.first { $0.id == 1 }?.status == .error)
                        #expect(answers.first { $0.id == 2 }?.status == .okay)
                    }
                }
            }
            try expectServed(raw)
            try raw.close()
            try pair.restartFrontend()
        }
        pair.backend.stop()
        expectBaseline(pair.host, baseline)
    }

    @Test(arguments: [UInt32(33), 1 << 31, UInt32.max, 1000]) func A13_aLyingProducerIsQuarantined(_ lie: UInt32) throws {
        let pair = try BlockPair()
        // A second guest on the same backend, to be served throughout.
        let image = pair.scratch.image("other.img", byteCount: 1 << 20)
        _ = try pair.toolstack.create(.init(try DiskSpecification(parsing: image + ",raw,xvda,w"), frontend: DomainID(2)))
        let honest = try BlockFrontend(hypervisor: pair.host.domain(2), device: 51712)
        try honest.connect(timeoutMilliseconds: 5000)
        var queue = try honest.takeQueue(0)

        let raw = try MockBlockFrontend(pair)
        raw.ring.region.storeReleasing(lie, at: RingHeader.requestProduced)
        raw.channel.notify()
        try raw.waitForBackend([.closing])
        let error = try pair.toolstack.store.read("/local/domain/0/error/backend/vbd/1/51712/error")
        #expect(error.contains("ring"))
        #expect(try queue.perform(.read, sector: 8, byteCount: 512) == .okay)
        #expect(queue.buffer.load(0, as: UInt64.self) == 8)
        // Quarantine ends with a close cycle.
        try raw.close()
        try pair.restartFrontend()
        let second = try MockBlockFrontend(pair)
        try expectServed(second)
        try second.close()
        honest.close()
        pair.backend.stop()
    }

    @Test func A14_overwritingTheBackendsFieldsHarmsOnlyThisFrontend() throws {
        let pair = try BlockPair()
        let raw = try MockBlockFrontend(pair)
        for round in 0..<50 {
            raw.ring.region.storeRelaxed(UInt32.random(in: 0...UInt32.max), at: RingHeader.responseProduced)
            raw.ring.region.storeRelaxed(UInt32.random(in: 0...UInt32.max), at: RingHeader.requestEvent)
            raw.ring.region.fill(16, count: 48, with: UInt8(round))
            _ = raw.front.push(raw.request(.read, sector: 0, id: UInt64(round)))
            _ = raw.front.publish()
            raw.channel.notify()
            sleepMilliseconds(1)
            if round == 0 { break }
        }
        // The backend still knows its own counters: state 4, and it answers the close cycle.
        #expect(try raw.store.state(of: raw.backendPath) == .connected)
        try raw.close()
        pair.backend.stop()
    }

    @Test(arguments: abis) func A20_unknownOperationsAreAnsweredUnsupported(_ abi: BlockABI) throws {
        var options = BlockBackendOptions()
        options.indirectSegments = 0
        let pair = try BlockPair(backendOptions: options)
        let raw = try MockBlockFrontend(pair, abi: abi)
        for code in [4, 6, 7, 8, 100, 127, 128, 254, 255] {
            #expect(
                try raw.ask(raw.request(BlockOperationCode(rawValue: UInt8(code)), sector: 0, id: UInt64(code))) == .unsupported,
                "\(code)")
            try expectServed(raw)
        }
        try raw.close()
        pair.backend.stop()
    }

    @Test(arguments: abis) func A21_sectorsPastTheEndAndWrapped(_ abi: BlockABI) throws {
        let pair = try BlockPair()
        let raw = try MockBlockFrontend(pair, abi: abi)
        let before = try fileHash(pair)
        for sector: UInt64 in [
            8192, 8191, 8185, UInt64.max, UInt64.max - 7, 1 << 54, 1 << 55, (1 << 55) - 8, 1 << 63, UInt64(Int64.max),
        ] {
            #expect(try raw.ask(raw.request(.write, sector: sector)) == .error, "write at \(sector)")
            #expect(try raw.ask(raw.request(.read, sector: sector)) == .error, "read at \(sector)")
        }
        #expect(try raw.ask(raw.request(.read, sector: 8184)) == .okay)
        #expect(try fileHash(pair) == before)
        #expect(try Data(contentsOf: URL(fileURLWithPath: pair.image)).count == 4 << 20)
        try raw.close()
        pair.backend.stop()
    }

    @Test func A22_discardsPastTheEndAndSecureOnesThatWereNotOffered() throws {
        let pair = try BlockPair()
        let raw = try MockBlockFrontend(pair)
        let before = try fileHash(pair)
        for (sector, count) in [
            (8192, 1), (0, 8193), (8191, 2), (UInt64.max, 1), (1, UInt64.max), (UInt64.max, UInt64.max), (1 << 54, 1 << 54),
        ] as [(UInt64, UInt64)] {
            #expect(try raw.ask(BlockRequest(discarding: count, at: sector, id: 3)) == .error, "\(count) at \(sector)")
        }
        #expect(try raw.ask(BlockRequest(discarding: 0, at: 0, id: 3)) == .okay)
        #expect(try fileHash(pair) == before)
        // A wish for security that was not offered is ignored, as xen/io/blkif.h has it: a plain discard, of that range
        // only.
        #expect(try raw.ask(BlockRequest(discarding: 8, at: 8, secure: true, id: 3)) == .okay)
        let after = try Data(contentsOf: URL(fileURLWithPath: pair.image))
        #expect(after[8 * 512..<16 * 512].allSatisfy { $0 == 0 } && after[16 * 512] == 16 && after[7 * 512] == 7)
        try raw.close()
        pair.backend.stop()
    }

    @Test func A23_noSideDoorIntoAReadOnlyDisk() throws {
        let pair = try BlockPair(spec: ",raw,xvda,r")
        let raw = try MockBlockFrontend(pair)
        let before = try fileHash(pair)
        #expect(try raw.ask(raw.request(.write, sector: 0)) == .error)
        #expect(try raw.ask(raw.request(.barrier, sector: 0)) != .okay)
        #expect(try raw.ask(raw.request(.flush, sector: 0)) != .okay)
        #expect(try raw.ask(BlockRequest(discarding: 8, at: 0, id: 3)) != .okay)
        var request = BlockRequest(indirect: .write, segmentCount: 1, sector: 0, id: 6)
        raw.data.region.store(BlockSegment(raw.data.references[0]).word, at: 60 * 4096)
        request.setIndirectReference(0, to: raw.data.references[60])
        #expect(try raw.ask(request) == .error)
        #expect(try fileHash(pair) == before)
        try raw.close()
        pair.backend.stop()
    }

    @Test func A25_idsAreTheFrontendsOwn() throws {
        let pair = try BlockPair()
        let raw = try MockBlockFrontend(pair)
        for id in [UInt64.max, 0, 7, 7, 7, 1 << 63] { _ = raw.front.push(raw.request(.read, sector: 0, id: id)) }
        if raw.front.publish() { raw.channel.notify() }
        var ids: [UInt64] = []
        for _ in 0..<6 { ids.append(try raw.receive().id) }
        #expect(ids.sorted() == [0, 7, 7, 7, 1 << 63, UInt64.max])
        try raw.close()
        pair.backend.stop()
    }

    @Test(arguments: [true, false]) func A26_theSameGrantEverywhere(_ persistent: Bool) throws {
        let pair = try BlockPair()
        let baseline = pair.host.usage
        let raw = try MockBlockFrontend(pair, persistent: persistent)
        for round in 0..<20 {
            for slot in 0..<32 {
                var request = BlockRequest(slot % 2 == 0 ? .read : .write, id: UInt64(slot), sector: UInt64(slot) * 88)
                for _ in 0..<11 { request.append(BlockSegment(raw.data.references[0])) }
                _ = raw.front.push(request)
            }
            if raw.front.publish() { raw.channel.notify() }
            for _ in 0..<32 { #expect(try raw.receive().status == .okay, "round \(round)") }
        }
        // One page, however often it was named.
        let deadline = monotonicMilliseconds() + 1000
        while pair.backend.service.status.first?.queues.first?.persistentGrants != (persistent ? 1 : 0),
            monotonicMilliseconds() < deadline
        {
            sleepMilliseconds(20)
        }
        #expect(pair.host.usage.mappings - baseline.mappings == (persistent ? 2 : 1))
        try raw.close()
        pair.backend.stop()
        expectBaseline(pair.host, baseline)
    }

    @Test(arguments: [true, false]) func A27_aReadOnlyGrantIsNotWritten(_ persistent: Bool) throws {
        let pair = try BlockPair()
        let raw = try MockBlockFrontend(pair, persistent: persistent)
        let sealed = try pair.guest.offerPages(1, to: .zero, access: .readOnly)
        sealed.region.fill(0, count: 4096, with: 0x5A)
        var request = BlockRequest(.read, id: 1, sector: 8)
        request.append(BlockSegment(sealed.references[0]))
        #expect(try raw.ask(request) == .error)
        #expect(sealed.region.load(0, as: UInt8.self) == 0x5A)
        // A write only reads it; with persistent grants everything is mapped writable, so it must fail.
        var write = BlockRequest(.write, id: 2, sector: 8)
        write.append(BlockSegment(sealed.references[0]))
        #expect(try raw.ask(write) == (persistent ? .error : .okay))
        try expectServed(raw)
        try raw.close()
        sealed.withdraw()
        pair.backend.stop()
    }

    @Test func A28_moreGrantsThanTheCacheKeeps() throws {
        var options = BlockBackendOptions()
        options.persistentGrantLimit = 16
        let pair = try BlockPair(backendOptions: options)
        let baseline = pair.host.usage
        let raw = try MockBlockFrontend(pair, persistent: true)
        for round in 0..<4 {
            for page in 0..<48 {
                #expect(
                    try raw.ask(raw.request(.read, sector: UInt64(page) * 8, page: page, id: UInt64(page))) == .okay,
                    "round \(round)")
                #expect(raw.data.region.load(page * 4096, as: UInt64.self) == UInt64(page) * 8)
            }
        }
        #expect(pair.host.usage.mappings - baseline.mappings <= 17)
        try raw.close()
        pair.backend.stop()
        expectBaseline(pair.host, baseline)
    }

    @Test func A1_fieldsThatChangeWhileTheyAreRead() throws {
        let pair = try BlockPair()
        let raw = try MockBlockFrontend(pair)
        let region = raw.ring.region
        let stop = StopFlag()
        // Flips the segment count and the last sector of every slot as fast as it can.
        let racer = try WorkerThread(name: "racer") {
            var value: UInt8 = 0
            while !stop.isSet {
                for slot in 0..<32 {
                    region.store(value & 1 == 0 ? UInt8(1) : 255, at: 64 + slot * 112 + 1)
                    region.store(value & 1 == 0 ? UInt8(7) : 255, at: 64 + slot * 112 + 24 + 5)
                }
                value &+= 1
            }
        }
        var outcomes: Set<Int16> = []
        for round in 0..<2000 {
            raw.send(raw.request(.read, sector: 8, page: 0, id: UInt64(round)))
            outcomes.insert(try raw.receive().status.rawValue)
            // Whatever was decided, the next page was not touched.
            #expect(region.byteCount == 4096 && raw.data.region.load(4096, as: UInt64.self) == 0x0202_0202_0202_0202)
        }
        stop.set()
        racer.join()
        #expect(outcomes.isSubset(of: [0, -1]))
        try expectServed(raw)
        try raw.close()
        pair.backend.stop()
    }

    @Test func A30_aFrontendThatTakesNoAnswersIsNotServedBeyondItsRing() throws {
        let pair = try BlockPair()
        let raw = try MockBlockFrontend(pair)
        for id in 0..<32 { _ = raw.front.push(raw.request(.read, sector: 0, id: UInt64(id))) }
        _ = raw.front.publish()
        raw.channel.notify()
        #expect(eventually { raw.ring.region.loadAcquiring(RingHeader.responseProduced) == 32 })
        sleepMilliseconds(50)
        #expect(raw.ring.region.loadAcquiring(RingHeader.responseProduced) == 32)
        for _ in 0..<32 { _ = try raw.receive() }
        try expectServed(raw)
        try raw.close()
        pair.backend.stop()
    }
}

/// Tells a thread to end.
final class StopFlag: Sendable {
    private let flag = Atomic<Bool>(false)
    var isSet: Bool { flag.load(ordering: .relaxed) }
    func set() { flag.store(true, ordering: .relaxed) }
}

extension BlockPair {
    /// What a frontend that begins anew writes first.
    func restartFrontend() throws {
        let client = try host.store.connectInProcess(domain: DomainID(1))
        defer { client.close() }
        try client.write(paths.frontendPath + "/state", "1")
    }
}
