// Frames through a whole pair, both ways, byte for byte.

import LinuxSystem
import NetworkBackend
import NetworkFrontend
import Testing
import TestSupport

@Suite(.timeLimit(.minutes(2)))
struct DataPathTests {
    static let sizes = [14, 15, 60, 64, 127, 128, 129, 191, 192, 193, 255, 1514, 4095, 4096, 4097, 8191, 8192, 8193, 9018, 12_288]

    @Test(arguments: [true, false]) func everyFrameArrivesAsItWasSent(mapped: Bool) throws {
        let pair = try NetworkPair()
        var options = NetworkFrontendOptions()
        options.mapsGrants = mapped
        let frontend = try pair.connect(options)
        #expect(frontend.mappedPages == (mapped ? 512 : 0))
        for (seed, size) in Self.sizes.enumerated() {
            let frame = plainFrame(size, seed: seed)
            try pair.frontWire.send(frame)
            expectSame(try pair.backWire.receive()?.frame ?? [], frame, "\(size) bytes out")
            try pair.backWire.send(frame)
            expectSame(try pair.frontWire.receive()?.frame ?? [], frame, "\(size) bytes in")
        }
        let total = pair.backend.total
        #expect(mapped ? total.copiedFrames == 0 : total.mappedFrames == 0)
        frontend.close()
        pair.backend.stop()
    }
}

/// Large frames in bursts: most slots of the ring are taken, some frames wait for pages, and those that come after them
/// must not overtake them or use pages that were promised to them.
@Suite(.timeLimit(.minutes(2)))
struct BurstTests {
    @Test(arguments: [true, false]) func largeFramesInBurstsArriveWholeAndInOrder(mapped: Bool) throws {
        let pair = try NetworkPair()
        var options = NetworkFrontendOptions()
        options.mapsGrants = mapped
        let frontend = try pair.connect(options)
        let sizes = [60_000, 65_535, 4096, 9000, 64, 40_000, 20_481]
        let frames = (0..<sizes.count * 7).map { plainFrame(sizes[$0 % sizes.count], seed: $0) }
        let wire = pair.backWire
        let sender = try WorkerThread(name: "sender") {
            for seed in 0..<400 { try? wire.send(frames[seed % frames.count]) }
        }
        for seed in 0..<400 {
            // The reader is slower now and then, so that frames pile up behind it.
            if seed % 50 == 0 { sleepMilliseconds(20) }
            let frame = try pair.frontWire.receive()?.frame
            try #require(frame == frames[seed % frames.count], "frame \(seed): \(frame?.count ?? 0) bytes")
        }
        sender.join()
        frontend.close()
        pair.backend.stop()
    }

    /// The device at the end is full for a time: frames wait, on whichever side it is, and none is lost, doubled or
    /// overtaken.
    @Test(arguments: [true, false]) func aFullDeviceHoldsFramesBack(outward: Bool) throws {
        let pair = try NetworkPair()
        let frontend = try pair.connect()
        let (from, to) = outward ? (pair.frontWire, pair.backWire) : (pair.backWire, pair.frontWire)
        // Two wires and two rings hold less than half of this.
        let count = 4000
        let frames = (0..<50).map { plainFrame(9000 + $0, seed: $0) }
        let sender = try WorkerThread(name: "sender") { for seed in 0..<count { try? from.send(frames[seed % frames.count]) } }
        sleepMilliseconds(300)
        for seed in 0..<count {
            let frame = try to.receive()?.frame
            try #require(frame == frames[seed % frames.count], "frame \(seed): \(frame?.count ?? 0) bytes")
        }
        sender.join()
        #expect(try to.receive(milliseconds: 50) == nil)
        let total = pair.backend.total
        #expect(outward ? total.transmitted == UInt64(count) : total.received == UInt64(count))
        #expect(total.transmitDropped == 0 && total.receiveDropped == 0)
        frontend.close()
        pair.backend.stop()
    }
}
