// Headers longer than the first look at a frame: IPv6's extension headers, as many bytes as a sender likes. Nothing is
// dropped for them, both ways, through pages that are mapped or copied, and over cables.

import NetworkBackend
import NetworkDevices
import NetworkFrontend
@testable import NetworkProtocol
import Packets
import SharedMemory
import TestHosts
import Testing
import TestSupport

@Suite("Headers of any length", .timeLimit(.minutes(2)), .serialized)
struct LongHeadersTests {
    /// Bytes of destination options: the last that fits the first look, the first that does not, the limit of Linux's
    /// look, one beyond it, more than a small frame's whole length, and the most that one header has.
    static let lengths = [64, 104, 112, 200, 216, 224, 1400, 2048]

    @Test("a blank checksum behind them arrives blank, or filled in where peers look no further", arguments: [true, false])
    func blankChecksums(mapped: Bool) throws {
        let (pair, frontend, inside, outside) = try connected(mapped: mapped)
        for (from, to) in [(inside, outside), (outside, inside)] {
            for length in Self.lengths {
                for transport in TestFrame.Transport.allCases {
                    for tags in [0, 2] {
                        let frame = TestFrame(
                            version: 6, transport: transport, payload: 700, .init(tags: tags, options: length), seed: length)
                        try from.send(frame.bytes, offload: frame.blank)
                        let got = try #require(try to.receive(timeout: .seconds(3)), "\(length) bytes of options, \(transport)")
                        if 40 + length <= NetworkLimits.blankHeaderBytes {
                            expectSame(got.bytes, frame.bytes)
                            #expect(got.offload.checksum == frame.blank.checksum)
                        } else {
                            #expect(got.offload.checksum == nil && frame.isFinished(got.bytes), "\(length), \(transport)")
                        }
                    }
                }
            }
        }
        #expect(pair.backend.total.transmitErrors == 0 && pair.backend.total.receiveDropped == 0)
        #expect(frontend.statistics.allSatisfy { $0.transmitDropped == 0 && $0.receiveDropped == 0 })
        frontend.close()
        pair.backend.stop()
    }

    @Test("a large packet behind them arrives whole, with its marks", arguments: [true, false])
    func largePackets(mapped: Bool) throws {
        let (pair, frontend, inside, outside) = try connected(mapped: mapped)
        for (from, to) in [(inside, outside), (outside, inside)] {
            for length in Self.lengths {
                let frame = TestFrame(
                    version: 6, transport: .tcp, payload: 30_000, .init(options: length, tcpOptions: 12), seed: length)
                try from.send(frame.bytes, offload: frame.segmented(1000))
                let got = try #require(try to.receive(timeout: .seconds(3)), "\(length) bytes of options")
                expectSame(got.bytes, frame.bytes)
                #expect(got.offload == frame.segmented(1000))
            }
        }
        frontend.close()
        pair.backend.stop()
    }

    @Test("a cable cuts such a packet up for an end that does not take it whole")
    func cutByACable() throws {
        let cable = try Cable()
        var plain = NetworkFrontendOptions()
        plain.features.remove(.tcp6)
        let frontends = [try cable.connect(0), try cable.connect(1, plain)]
        #expect(eventually { frontends.allSatisfy(\.hasCarrier) })
        for length in Self.lengths {
            let frame = TestFrame(version: 6, transport: .tcp, payload: 5000, .init(options: length), seed: length)
            try cable.wires[0].send(frame.bytes, header: TestFrame.header(frame.segmented(1000)))
            for part in 0..<5 {
                let got = try #require(try cable.wires[1].receive(), "\(length) bytes of options, part \(part)").frame
                let payload = frame.payloadOffset + part * 1000..<frame.payloadOffset + (part + 1) * 1000
                expectSame(Array(got[frame.payloadOffset...]), Array(frame.bytes[payload]))
            }
        }
        for frontend in frontends { frontend.close() }
        cable.stop()
    }

    @Test("the sum of a packet with a routing header stays its sender's: it is over another destination")
    func routed() throws {
        var bytes = TestFrame(version: 6, transport: .tcp, payload: 3000, .init(options: 24)).bytes
        let transport = 14 + 40 + 24
        bytes[20] = 43
        // Segments are left, so the last destination is in the routing header.
        bytes[14 + 40 + 3] = 1
        bytes.replaceSubrange(transport + 16..<transport + 18, with: [0x12, 0x34])
        let region = try SharedRegion(anonymous: 2 * SharedRegion.pageSize)
        region.write(bytes, at: 0)
        var marks = FrameMarks()
        marks.isBlank = true
        marks.segmentation = (.tcp6, 1000)
        let offload = try #require(FrameOffload(marks, in: region, head: 0, headCount: bytes.count, byteCount: bytes.count))
        #expect(offload.segmentation?.headerCount == UInt16(transport + 20))
        #expect(region.bytes(at: transport + 16, count: 2) == [0x12, 0x34])
        // A segment's differs by the length alone.
        var cutter = try #require(SegmentCutter(region, byteCount: bytes.count, size: 1000))
        let target = try SharedRegion(anonymous: SharedRegion.pageSize)
        cutter.write(to: target, at: 0)
        #expect(UInt16(bigEndian: target.load(transport + 16)) == 0x1234 - 2000)
    }

    /// A pair with ports at its ends.
    private func connected(mapped: Bool) throws -> (NetworkPair, NetworkFrontend<TestHypervisor>, FramePort, FramePort) {
        var options = NetworkFrontendOptions()
        options.mapsGrants = mapped
        let (inside, outside) = (try FramePort(name: "inside", time: .system), try FramePort(name: "outside", time: .system))
        let pair = try NetworkPair(backEnd: BackEnd(outside.device))
        let frontend = try NetworkFrontend(hypervisor: pair.guest, number: 0, device: inside.device, options: options)
        try frontend.connect(timeoutMilliseconds: 5000)
        return (pair, frontend, inside, outside)
    }
}
