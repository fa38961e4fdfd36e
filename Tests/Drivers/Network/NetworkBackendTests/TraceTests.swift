// A traced interface: every packet with the slots that it had, a hostile frontend's slots as they were, and a tracer
// that is slow or gone costs the interface nothing.

import Foundation
import Hypervisor
import LinuxSystem
import MockPeers
@testable import NetworkBackend
import NetworkFrontend
import NetworkProtocol
import DeviceTrace
import NetworkTrace
import SharedMemory
import Synchronization
import TestHosts
import Testing
import TestSupport
import Toolstack
import XenTypes

/// A tracer of a backend in this process, through a socket as outside.
final class Tracer {
    let service: TraceService
    private(set) var connection: TraceConnection<TraceRecord>?
    private let stop: WakePipe
    /// Everything read so far.
    private(set) var records: [TraceRecord] = []

    init(_ backend: RunningBackend, _ request: TraceRequest = TraceRequest(domain: DomainID(1), number: 0)) throws {
        let path = FileManager.default.temporaryDirectory.path + "/cw-trace-\(UUID().uuidString.prefix(8)).sock"
        service = try TraceService(path: path, subjects: backend.traceSubjects, time: .system)
        stop = try WakePipe()
        connection = try TraceConnection(path: path, request)
    }

    /// Reads what is there; whether the interface is still there.
    @discardableResult func read() throws -> Bool {
        guard let connection else { return false }
        while let record = try connection.next() { records.append(record) }
        signalPipe(stop.writer)
        defer { drainPipe(stop.reader) }
        return connection.wait(stop: stop.reader.rawValue, output: nil) != .ended
    }

    /// Waits for so many records.
    func wait(for count: Int) throws -> [TraceRecord] {
        _ = try eventually {
            try read(); return records.count >= count
        }
        return records
    }

    var lost: UInt32 { connection?.lost ?? 0 }

    func disconnect() { connection = nil }

    func close() {
        connection = nil
        service.stop()
    }
}

@Suite(.timeLimit(.minutes(2)), .serialized)
struct TraceTests {
    @Test(arguments: [true, false]) func framesBothWaysWithTheirSlots(mapped: Bool) throws {
        let pair = try NetworkPair()
        var options = NetworkFrontendOptions()
        options.mapsGrants = mapped
        let frontend = try pair.connect(options)
        let tracer = try Tracer(pair.backend)
        #expect(tracer.connection?.subject.name == "vif1.0")
        #expect(tracer.connection?.subject.address == MACAddress("00:16:3e:01:02:03"))
        let sizes = [60, 191, 193, 1514, 4097, 9018]
        for (seed, size) in sizes.enumerated() {
            let frame = plainFrame(size, seed: seed)
            try pair.frontWire.send(frame)
            expectSame(try pair.backWire.receive()?.frame ?? [], frame)
            try pair.backWire.send(frame)
            expectSame(try pair.frontWire.receive()?.frame ?? [], frame)
        }
        let records = try tracer.wait(for: 2 * sizes.count)
        #expect(records.map(\.kind) == sizes.flatMap { _ in [TraceKind.transmit, .receive] })
        for (index, record) in records.enumerated() {
            let size = sizes[index / 2]
            expectSame(record.bytes, plainFrame(size, seed: index / 2), "record \(index)")
            #expect(record.byteCount == size && record.status == .okay && record.header.lost == 0)
            let pages = (size + 4095) / 4096
            #expect(record.slots.count == pages)
            if record.kind == .transmit {
                #expect(Int(record.slots[0].request.size) == size)
                #expect(record.slots.dropFirst().reduce(0) { $0 + Int($1.request.size) } == size - min(size, 4096))
                #expect(record.slots.map { $0.request.flags.contains(.moreData) } == (0..<pages).map { $0 + 1 < pages })
            } else {
                #expect(record.slots.reduce(0) { $0 + Int($1.response.status) } == size)
                #expect(record.slots.map { $0.response.flags.contains(.moreData) } == (0..<pages).map { $0 + 1 < pages })
                #expect(record.slots.allSatisfy { $0.page.rawValue > 0 })
            }
        }
        #expect(zip(records, records.dropFirst()).allSatisfy { $0.header.nanoseconds <= $1.header.nanoseconds })
        tracer.close()
        frontend.close()
        pair.backend.stop()
    }

    @Test func segmentationIsSeenBothWays() throws {
        let pair = try NetworkPair()
        let frontend = try pair.connect()
        let tracer = try Tracer(pair.backend)
        let frame = TestFrames.tcp(payload: 9000)
        try pair.frontWire.send(frame, header: TestFrames.segmented(size: 1448))
        _ = try pair.backWire.receive()
        try pair.backWire.send(frame, header: TestFrames.segmented(size: 1448))
        _ = try pair.frontWire.receive()
        let records = try tracer.wait(for: 2)
        #expect(records.count == 2)
        for record in records {
            #expect(record.comments.contains("slot 1: extra gso tcpv4, segments of 1448 bytes"), "\(record.comments)")
            #expect(record.comments[1].contains("csum_blank") && record.comments[1].contains("extra_info"))
            #expect(record.slots.count == 4 && record.byteCount == frame.count)
            // The transport checksum is fitted on the way; the rest is as it was.
            expectSame(record.bytes.dropFirst(54), frame.dropFirst(54))
        }
        tracer.close()
        frontend.close()
        pair.backend.stop()
    }

    @Test func aHostileFrontendsSlotsAreSeenAsTheyWere() throws {
        let pair = try NetworkPair()
        let raw = try MockNetworkFrontend(pair, keys: ["request-multicast-control": "1"])
        try raw.wait(for: [.connected])
        let tracer = try Tracer(pair.backend)
        // Dropped: a continuation that is longer than what is left. Refused: a page that is not granted. A multicast
        // wish.
        raw.send([raw.request(page: 0, size: 100, flags: .moreData, id: 3), raw.request(page: 1, size: 500, id: 4)])
        _ = try raw.answers(2)
        var bad = raw.request(size: 100, id: 5).request
        bad.reference = GrantReference(31_000)
        raw.send([TransmitSlot(bad)])
        _ = try raw.answers(1)
        // A wish that is no packet.
        let group = MACAddress(littleEndian: 0x0100_005E_0001)
        raw.send([raw.request(size: 0, flags: .extraInfo, id: 7), TransmitSlot(ExtraInfo(multicast: group, isAdded: true))])
        _ = try raw.answers(2)
        // The end: a slot that crosses its page.
        raw.send([raw.request(page: 2, offset: 4000, size: 200, id: 6)])
        try raw.wait(for: [.closing])
        let records = try tracer.wait(for: 5)
        try #require(records.count == 5, "\(records.map(\.comments))")
        #expect(records[0].status == .error && records[0].text == "dropped: a slot of 500 bytes where 100 are left")
        #expect(records[0].slots.map(\.request.id) == [3, 4] && records[0].slots.map(\.request.size) == [100, 500])
        #expect(records[0].bytes.isEmpty)
        #expect(records[1].status == .error && records[1].slots[0].request.reference == GrantReference(31_000))
        #expect(records[2].text == "multicast \(group) wanted" && records[2].byteCount == 0 && records[2].bytes.isEmpty)
        #expect(records[2].comments.last == "slot 1: extra mcast_add \(group)")
        #expect(records[3].text == "the ring is broken: 200 bytes from 4000 on cross a page")
        #expect(records[3].slots.map(\.request.offset) == [4000])
        #expect(records[4].kind == .note && records[3].text.contains("cross a page"))
        tracer.close()
        try raw.close()
        pair.backend.stop()
    }

    @Test func aTracerThatReadsNothingCostsTheInterfaceNothing() throws {
        let pair = try NetworkPair()
        let frontend = try pair.connect()
        let tracer = try Tracer(pair.backend, TraceRequest(domain: DomainID(1), number: 0, capacity: 1 << 18))
        let frame = plainFrame(9018, seed: 1)
        for _ in 0..<500 {
            try pair.frontWire.send(frame)
            guard try pair.backWire.receive() != nil else { throw TimedOut("a frame, with a tracer that reads nothing") }
        }
        #expect(eventually { pair.backend.total.transmitted == 500 })
        #expect(tracer.lost > 400)
        // It reads again: the first that found room, then whatever comes now.
        let before = try tracer.wait(for: 1).count
        #expect(before > 10 && UInt32(before) + tracer.lost == 500)
        try pair.frontWire.send(frame)
        let after = try tracer.wait(for: before + 1)
        #expect(after.last?.header.lost == tracer.lost && after.last?.bytes.count == 9018)
        tracer.close()
        frontend.close()
        pair.backend.stop()
    }

    @Test func aTraceOutlivesConnectionsAndEndsWithTheInterface() throws {
        let pair = try NetworkPair()
        // A trace of an interface that the backend has not found yet is refused.
        #expect(eventually { !pair.backend.status.isEmpty })
        let baseline = pair.host.usage
        #expect(eventually { (try? pair.node("state")) == "2" })
        let tracer = try Tracer(pair.backend)
        for round in 1...2 {
            let frontend = try pair.connect()
            try pair.frontWire.send(plainFrame(60, seed: round))
            _ = try pair.backWire.receive()
            expectSame(try tracer.wait(for: round).last?.bytes ?? [], plainFrame(60, seed: round))
            frontend.close()
            #expect(eventually { (try? pair.node("state")) == "6" })
            try pair.toolstack.store.write(pair.paths.frontendPath + "/state", "1")
            #expect(eventually { (try? pair.node("state")) == "2" })
        }
        #expect(try tracer.read())
        expectBaseline(pair.host, baseline)
        try pair.toolstack.remove(pair.paths, force: true, milliseconds: 2000)
        #expect(try eventually { try !tracer.read() })
        tracer.close()
        pair.backend.stop()
    }

    /// With nobody tracing nothing is kept: not after the last tracer has gone either.
    @Test func nothingIsLeftWhenATracerGoes() throws {
        let pair = try NetworkPair()
        let frontend = try pair.connect()
        let regions = SharedRegion.liveCount
        for _ in 0..<3 {
            let tracer = try Tracer(pair.backend)
            let second = try Tracer(pair.backend)
            try pair.frontWire.send(plainFrame(60))
            _ = try pair.backWire.receive()
            #expect(try tracer.wait(for: 1).count == 1)
            #expect(try second.wait(for: 1).count == 1)
            tracer.disconnect()
            second.disconnect()
            tracer.close()
            second.close()
            #expect(eventually { SharedRegion.liveCount == regions })
        }
        frontend.close()
        pair.backend.stop()
    }
}
