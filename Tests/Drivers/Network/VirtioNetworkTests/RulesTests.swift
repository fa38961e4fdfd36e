// What a driver's header may say of its frame, and what a device's frame is to a driver.

import Connectors
import NetworkDevices
import Packets
import Testing
import VirtioWire

@testable import VirtioNetwork

@Suite("virtio network: rules") struct RulesTests {
    private static let all = VirtioFrameRules([.version1, .sending, .receiving])

    private func header(
        flags: UInt8 = 0, kind: UInt8 = 0, headers: UInt16 = 0, segment: UInt16 = 0, start: UInt16 = 0, offset: UInt16 = 0
    ) -> NetworkHeader {
        var header = NetworkHeader()
        (header.flags, header.segmentation, header.headerBytes, header.segmentBytes) = (flags, kind, headers, segment)
        (header.checksumStart, header.checksumOffset) = (start, offset)
        return header
    }

    private func fault(_ header: NetworkHeader, _ count: Int, _ rules: VirtioFrameRules = RulesTests.all) -> FrameFault? {
        do throws(FrameFault) {
            _ = try rules.offload(of: header, byteCount: count)
            return nil
        } catch { return error }
    }

    @Test("a frame is as long as an Ethernet header at least, and as a packet at most")
    func lengths() {
        for count in [0, 1, 13] { #expect(fault(header(), count) == .tooShort) }
        for count in [14, 60, 1514, 65553] { #expect(fault(header(), count) == nil) }
        for count in [65554, 1 << 20, Int(UInt32.max), .max] { #expect(fault(header(), count) == .tooLong) }
    }

    @Test("VN3: a checksum begins and belongs in its frame")
    func VN3_checksumsOutside() throws {
        for count in [14, 60, 1514] {
            let last = UInt16(count - 2)
            for start in [0, 1, last / 2, last] {
                #expect(fault(header(flags: 1, start: start, offset: last - start), count) == nil)
                #expect(fault(header(flags: 1, start: start, offset: last - start + 1), count) == .checksumOutside)
            }
            #expect(fault(header(flags: 1, start: .max, offset: .max), count) == .checksumOutside)
            #expect(fault(header(flags: 1, start: .max), count) == .checksumOutside)
        }
        let offload = try Self.all.offload(of: header(flags: 1, start: 34, offset: 16), byteCount: 60)
        #expect(offload.checksum == .init(start: 34, field: 16))
        #expect(offload.segmentation == nil)
    }

    @Test("VN4: segments have a size, and a blank checksum")
    func VN4_segments() {
        let good = header(flags: 1, kind: 1, headers: 54, segment: 1448, start: 34, offset: 16)
        #expect(fault(good, 9000) == nil)
        #expect(fault(header(kind: 1, headers: 54, segment: 1448, start: 34, offset: 16), 9000) == .segmentsWithoutChecksum)
        for size: UInt16 in [0, .max] {
            #expect(fault(header(flags: 1, kind: 4, headers: 54, segment: size, start: 34, offset: 16), 9000) == .segmentSize)
        }
        #expect(fault(header(flags: 1, kind: 1, headers: 54, segment: 1448, start: 34, offset: 16), 51) == .checksumOutside)
    }

    @Test("VN5: what was not agreed on is not done: checksums, segments, kinds of them")
    func VN5_notAgreed() {
        let blank = header(flags: 1, start: 34, offset: 16)
        let none = VirtioFrameRules(.version1)
        #expect(fault(blank, 60, none) == .checksumNotAgreed)
        func cut(_ kind: UInt8) -> NetworkHeader { header(flags: 1, kind: kind, headers: 54, segment: 100, start: 34, offset: 16) }
        // Segments without checksums are not agreed on, whatever a driver accepts.
        let inconsistent = VirtioFrameRules([.version1, VirtioFeatures.Network.hostTSO4])
        #expect(fault(header(kind: 1, segment: 100), 600, inconsistent) == .segmentsNotAgreed)
        let tcp4 = VirtioFrameRules([.version1, VirtioFeatures.Network.checksum, VirtioFeatures.Network.hostTSO4])
        #expect(fault(cut(1), 600, tcp4) == nil)
        #expect(fault(cut(4), 600, tcp4) == .segmentsNotAgreed)
        for kind in UInt8.min...(.max) where kind != 0 && kind != 1 && kind != 4 {
            #expect(fault(cut(kind), 600) == .segmentsNotAgreed, "kind \(kind)")
        }
    }

    @Test("how long a frame's headers are is a hint, and what the device is told lies in the frame")
    func hints() throws {
        for (said, told) in [(0, 52), (51, 52), (54, 54), (600, 600), (601, 600), (65535, 600)] {
            let header = header(flags: 1, kind: 1, headers: UInt16(said), segment: 100, start: 34, offset: 16)
            let offload = try Self.all.offload(of: header, byteCount: 600)
            #expect(offload.segmentation == .init(type: .tcp4, size: 100, headerCount: UInt16(told)))
        }
    }

    @Test("a device's frame is told as it is to a driver that takes it so, finished for one that does not")
    func given() throws {
        var blank = FrameOffload()
        blank.checksum = .init(start: 34, field: 16)
        let told = try Self.all.header(for: blank)
        #expect(told.header == header(flags: 1, start: 34, offset: 16) && told.unfinished == nil)
        let none = VirtioFrameRules([.version1, .sending])
        let finished = try none.header(for: blank)
        #expect(finished.header == NetworkHeader() && finished.unfinished == blank.checksum)

        var valid = FrameOffload()
        valid.isValidated = true
        #expect(try Self.all.header(for: valid).header.flags == NetworkHeader.checksumIsValid)
        #expect(try none.header(for: valid).header.flags == 0)

        var cut = blank
        cut.segmentation = .init(type: .tcp6, size: 1000, headerCount: 74)
        #expect(
            try Self.all.header(for: cut).header == header(flags: 1, kind: 4, headers: 74, segment: 1000, start: 34, offset: 16))
        for features: VirtioFeatures in [[.version1, .sending], [.version1, VirtioFeatures.Network.guestTSO6]] {
            #expect(throws: FrameFault.unfit) { try VirtioFrameRules(features).header(for: cut) }
        }
        cut.checksum = nil
        #expect(throws: FrameFault.unfit) { try Self.all.header(for: cut) }
    }

    @Test("every reason says itself in other words, and counts for itself")
    func reasons() {
        #expect(Set(FrameFault.allCases.map(\.description)).count == FrameFault.allCases.count)
        var counts = VirtioFrameCounts()
        for (index, fault) in FrameFault.allCases.enumerated() { counts[fault] = UInt64(1 << index) }
        var twice = counts
        twice.add(counts)
        #expect(twice.dropped == 2 * counts.dropped && counts.dropped == UInt64(1 << FrameFault.allCases.count) - 1)
    }
}
