// What a trace's file says, read back by a parser that shares nothing with the writer; and the words for every kind of
// slot.

@testable import DeviceTrace
import Glibc
import LinuxSystem
import NetworkProtocol
@testable import NetworkTrace
import Packets
import SharedMemory
import Testing
import TestSupport
import XenTypes

/// A tap and the reader of its ring.
final class TapUnderTest {
    let tap: TraceTap
    private var reader: RecordReader
    var lost: UInt32 { reader.lost }

    init(capacity: Int = 1 << 18, snaplen: Int = 1 << 18) throws {
        tap = try TraceTap(capacity: capacity, snaplen: snaplen, time: .system)
        let memory = tap.memory
        reader = RecordReader(try SharedRegion(mapping: memory.descriptor, byteCount: memory.byteCount, writable: true))
    }

    func next() -> TraceRecord? {
        guard let (offset, count) = reader.next() else { return nil }
        defer { reader.release() }
        let body = offset + TraceHeader.byteCount
        return TraceRecord(TraceHeader(reader.region, offset), reader.region, body, count - TraceHeader.byteCount)
    }
}

func frame(_ bytes: [UInt8]) throws -> FramePieces {
    let region = try SharedRegion(anonymous: (bytes.count / 4096 + 1) * 4096)
    region.write(bytes, at: 0)
    var pieces = FramePieces()
    pieces.append(region, 0, bytes.count / 2)
    pieces.append(region, bytes.count / 2, bytes.count - bytes.count / 2)
    return pieces
}

@Suite struct PcapngTests {
    static let subject = TraceSubject(name: "vif1.0", description: "a test's", address: MACAddress(littleEndian: 0x0302_013E_1600))

    private static func slot(_ page: UInt32, _ id: UInt16, _ size: UInt16, _ flags: TransmitFlags = [], offset: UInt16 = 0)
        -> TraceSlot
    {
        TraceSlot(
            TransmitSlot(TransmitRequest(reference: GrantReference(page), offset: offset, flags: flags, id: id, size: size)))
    }

    @Test func everythingIsReadBack() throws {
        let rig = try TapUnderTest()
        var gso = ExtraInfo(segmenting: .tcp4, size: 1448)
        gso.hasMore = true
        let slots = [
            Self.slot(77, 5, 3000, [.moreData, .extraInfo, .checksumBlank], offset: 16), TraceSlot(TransmitSlot(gso)),
            TraceSlot(TransmitSlot(ExtraInfo(hash: 0xABCD, over: .ipv4TCP, .toeplitz))), Self.slot(78, 6, 1000),
        ]
        let bytes = (0..<3000).map { UInt8(truncatingIfNeeded: $0 * 2) }
        rig.tap.write(TraceEvent(.transmit, queue: 3, slots: slots, frame: TraceFrame(byteCount: 3000, pieces: try frame(bytes))))
        let answer = ReceiveSlot(ReceiveResponse(id: 9, offset: 4, flags: [.dataValidated], status: 60))
        rig.tap.write(
            TraceEvent(
                .receive, queue: 0, slots: [TraceSlot(answer, page: GrantReference(513))],
                frame: TraceFrame(byteCount: 60, pieces: try frame([UInt8](repeating: 0xFF, count: 60)))))
        let slot = Self.slot(1, 2, 3)
        rig.tap.write(
            TraceEvent(.transmit, queue: 0, status: .error, text: "why", slots: [slot], frame: TraceFrame(byteCount: 3)))
        rig.tap.write(TraceEvent(.note, queue: 0, text: "something"))
        var encoder = PcapngEncoder(Self.subject, linkType: TraceRecord.linkType, snaplen: 1 << 18, at: 1)
        while let record = rig.next() { encoder.packet(record) }
        encoder.statistics(at: 2, lost: rig.lost)
        let file = try PcapngFile(encoder.bytes)
        #expect(file.interfaceName == "vif1.0" && file.linkType == 1 && file.resolution == 9 && file.snaplen == 1 << 18)
        #expect(file.received == 4 && file.dropped == 0)
        #expect(file.packets.map(\.direction) == [1, 2, 1, 0])
        #expect(file.packets.map { $0.flags >> 2 & 7 } == [1, 3, 0, 0])
        #expect(file.packets.map(\.originalCount) == [3000, 60, 3, 0])
        #expect(file.packets.map(\.queue) == [3, 0, 0, 0])
        expectSame(file.packets[0].bytes, bytes)
        #expect(file.packets[2].bytes.isEmpty)
        #expect(
            file.packets[0].comments == [
                "transmit, queue 3, okay", "slot 0: id 5, page 77, offset 16, 3000 bytes in all, csum_blank more_data extra_info",
                "slot 1: extra gso tcpv4, segments of 1448 bytes, more_extra", "slot 2: extra hash toeplitz over ipv4_tcp, 0xabcd",
                "slot 3: id 6, page 78, offset 0, 1000 bytes",
            ])
        #expect(
            file.packets[1].comments == ["receive, queue 0, okay", "slot 0: id 9, page 513, offset 4, 60 bytes, data_validated"])
        #expect(file.packets[2].comments == ["transmit, queue 0, error: why", "slot 0: id 2, page 1, offset 0, 3 bytes in all"])
        #expect(file.packets[3].comments == ["something"])
        // The writer's own clock: time() is a tick behind it, and in the second before at times.
        var clock = timespec()
        clock_gettime(CLOCK_REALTIME, &clock)
        let now = UInt64(clock.tv_sec)
        #expect(file.packets.allSatisfy { $0.nanoseconds / 1_000_000_000 + 100 > now && $0.nanoseconds / 1_000_000_000 <= now })
    }

    @Test func wordsForWhatAPeerMustNotSend() {
        var unknown = ExtraInfo(word: 0x0605_0403_0201_0000 | 9)
        #expect(unknown.words == "extra of unknown type 9")
        unknown = ExtraInfo(segmenting: .tcp6, size: 0)
        unknown.word |= UInt64(7) << 32
        #expect(unknown.words == "extra gso type 7, segments of 0 bytes")
        let group = MACAddress(littleEndian: 0x0100_005E_0001)
        #expect(ExtraInfo(multicast: group, isAdded: true).words == "extra mcast_add \(group)")
        #expect(ExtraInfo(multicast: group, isAdded: false).words == "extra mcast_del \(group)")
        #expect(ExtraInfo(word: 5).words == "extra xdp, headroom 0")
        let record = TraceRecord.make(slots: [Self.slot(1, 2, 3, TransmitFlags(rawValue: 0x8010))])
        #expect(record.comments.last == "slot 0: id 2, page 1, offset 0, 3 bytes in all, 0x8010")
    }

    @Test func snaplenCutsWhatIsKept() throws {
        for snaplen in [0, 1, 2, 3, 64, 3000, 4000] {
            let rig = try TapUnderTest(snaplen: snaplen)
            let bytes = (0..<3000).map { UInt8(truncatingIfNeeded: $0 * 3) }
            rig.tap.write(TraceEvent(.transmit, queue: 0, frame: TraceFrame(byteCount: 3000, pieces: try frame(bytes))))
            let record = try #require(rig.next())
            expectSame(record.bytes, bytes.prefix(snaplen), "snaplen \(snaplen)")
            var encoder = PcapngEncoder(Self.subject, linkType: TraceRecord.linkType, snaplen: snaplen, at: 1)
            encoder.packet(record)
            #expect(try PcapngFile(encoder.bytes).packets[0].originalCount == 3000)
        }
    }

    /// What finds no room is lost, counted, and said to be lost: before the packet that follows it and at the end.
    @Test func aSlowReaderLosesPacketsAndIsTold() throws {
        let rig = try TapUnderTest()
        let pieces = try frame([UInt8](repeating: 1, count: 1500))
        var encoder = PcapngEncoder(Self.subject, linkType: TraceRecord.linkType, snaplen: 1 << 18, at: 1)
        for _ in 0..<1000 { rig.tap.write(TraceEvent(.transmit, queue: 0, frame: TraceFrame(byteCount: 1500, pieces: pieces))) }
        let lost = UInt64(rig.lost)
        #expect(lost > 500)
        while let record = rig.next() { encoder.packet(record) }
        rig.tap.write(TraceEvent(.receive, queue: 0, frame: TraceFrame(byteCount: 1500, pieces: pieces)))
        while let record = rig.next() { encoder.packet(record) }
        for _ in 0..<1000 { rig.tap.write(TraceEvent(.transmit, queue: 0, frame: TraceFrame(byteCount: 1500, pieces: pieces))) }
        while let record = rig.next() { encoder.packet(record) }
        encoder.statistics(at: 2, lost: rig.lost)
        let file = try PcapngFile(encoder.bytes)
        #expect(file.packets.first { $0.direction == 2 }?.dropped == lost)
        #expect(file.packets.filter { $0.dropped > 0 }.count == 1)
        #expect(file.dropped == UInt64(rig.lost) && file.dropped == encoder.lostCount)
        #expect(file.received == 2001)
        #expect(UInt64(file.packets.count) + (file.dropped ?? 0) == 2001)
    }
}

extension TraceRecord {
    static func make(slots: [TraceSlot]) -> TraceRecord {
        var rig: TraceRecord?
        if let tap = try? TapUnderTest() {
            tap.tap.write(TraceEvent(.transmit, queue: 0, slots: slots))
            rig = tap.next()
        }
        guard let rig else { preconditionFailure("no record") }
        return rig
    }
}
