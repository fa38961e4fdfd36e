// Frames through a whole pair, both ways, byte for byte.

import InProcessHypervisor
import LinuxSystem
import NetworkBackend
import NetworkFrontend
import TestSupport
import Testing
import XenBus
import XenWire

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
