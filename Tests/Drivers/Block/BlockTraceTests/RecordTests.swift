// A disk's records from the backend to a file, and what a backend of another mind might write.

import BlockProtocol
import SharedMemory
import TestSupport
import Testing
import XenTypes

@testable import BlockTrace
@testable import DeviceTrace

@Suite("records of disks") struct RecordTests {
    /// A tap and the reader of its ring.
    private final class Rig {
        let tap: TraceTap
        private var reader: RecordReader

        init() throws {
            tap = try TraceTap(capacity: 1 << 18, snaplen: 0, time: ManualClock(milliseconds: 5))
            reader = RecordReader(
                try SharedRegion(mapping: tap.memory.descriptor, byteCount: tap.memory.byteCount, writable: true))
        }

        func next() -> BlockTraceRecord? {
            guard let (offset, count) = reader.next() else { return nil }
            defer { reader.release() }
            let body = offset + TraceHeader.byteCount
            return BlockTraceRecord(TraceHeader(reader.region, offset), reader.region, body, count - TraceHeader.byteCount)
        }
    }

    private static func request(_ segments: Int) -> BlockTraceEvent {
        var event = BlockTraceEvent(.request, queue: 3, operation: .write, id: 17)
        event.sector = 2048
        event.sectorCount = UInt64(segments) * 8
        event.segmentCount = UInt32(segments)
        event.segments = (0..<segments).map { BlockSegment(GrantReference(UInt32(100 + $0)), first: 0, last: 7) }
        event.isIndirect = segments > 11
        return event
    }

    @Test("what is told is read back, and is a packet of a file", arguments: [0, 1, 11, 256])
    func roundTrip(segments: Int) throws {
        let rig = try Rig()
        var answer = BlockTraceEvent(.answer, queue: 3, operation: .write, id: .max)
        answer.status = .error
        answer.nanoseconds = 1_500_000
        answer.text = "refused: so"
        for event in [Self.request(segments), answer] {
            rig.tap.write(event)
            let record = try #require(rig.next())
            #expect(record.event == event && record.header.nanoseconds == 5_000_000)
        }
        rig.tap.write(Self.request(segments))
        rig.tap.write(answer)
        var encoder = PcapngEncoder(
            TraceSubject(name: "vbd1.51712", description: "a test's"), linkType: BlockTraceRecord.linkType, snaplen: 0, at: 1)
        while let record = rig.next() { encoder.packet(record) }
        encoder.statistics(at: 2, lost: 0)
        let file = try PcapngFile(encoder.bytes)
        #expect(file.linkType == 147 && file.interfaceName == "vbd1.51712" && file.received == 2)
        #expect(file.packets.map(\.direction) == [1, 2] && file.packets.map(\.queue) == [3, 3])
        #expect(file.packets[0].bytes.count == 48 + 8 * segments)
        #expect(
            file.packets[1].comments == [
                "queue 3 answer to id \(UInt64.max): write error, 1500 µs after it was taken", "refused: so",
            ])
    }

    @Test("words for requests")
    func words() throws {
        let rig = try Rig()
        rig.tap.write(Self.request(1))
        #expect(
            try #require(rig.next()).lines == [
                "queue 3 request id 17: write, 8 sectors from 2048, 1 segment", "grant 100 sectors 0-7",
            ])
        rig.tap.write(Self.request(12))
        #expect(try #require(rig.next()).lines.first == "queue 3 request id 17: write, 96 sectors from 2048, 12 segments, indirect")
        rig.tap.write(BlockTraceEvent(.request, queue: 0, operation: .flush, id: 1))
        #expect(try #require(rig.next()).lines == ["queue 0 request id 1: flush"])
    }

    @Test("a record whose parts do not fit is none, whatever is in it", arguments: 0..<200)
    func nonsense(seed: UInt64) throws {
        var random = SplitMix(seed)
        let region = try SharedRegion(anonymous: 4096)
        let rig = try Rig()
        // A record that makes sense but for one number.
        let event = Self.request(3)
        event.store(region, 4)
        region.store(UInt32(event.packetByteCount), at: 0)
        let count = 4 + event.packetByteCount
        #expect(BlockTraceRecord(TraceHeader(nanoseconds: 0, lost: 0), region, 0, count)?.event == event)
        region.store(UInt32.random(in: 0...UInt32.max, using: &random), at: [0, 4, 4 + 44][Int(seed % 3)])
        let length = Int.random(in: 0...count, using: &random)
        if let read = BlockTraceRecord(TraceHeader(nanoseconds: 0, lost: 0), region, 0, length) {
            #expect(read.event.segments.count * 8 + 48 <= length)
        }
        withExtendedLifetime(rig) {}
    }
}
