// The port that driver testers use instead of a tap, alone and in the example that the README points to.

import NetworkBackend
import NetworkDevices
import NetworkFrontend
import Testing
import TestSupport

@Suite(.timeLimit(.minutes(1)))
struct FramePortTests {
    @Test func framesCrossAPairWhole() throws {
        let (outside, inside) = (try FramePort(name: "outside", time: .system), try FramePort(name: "inside", time: .system))
        let pair = try NetworkPair(backEnd: BackEnd(outside.device))
        let frontend = try NetworkFrontend(hypervisor: pair.guest, number: 0, device: inside.device)
        try frontend.connect(timeoutMilliseconds: 5000)
        for (seed, size) in [14, 60, 1514, 4096, 4097, 12_288].enumerated() {
            let frame = plainFrame(size, seed: seed)
            try inside.send(frame)
            expectSame(try outside.receive()?.bytes ?? [], frame)
            try outside.send(frame)
            expectSame(try inside.receive()?.bytes ?? [], frame)
        }
        #expect(outside.device.offloads == [.checksum, .tcp4, .tcp6])
        frontend.close()
        pair.backend.stop()
    }

    /// What is left undone in a frame is said in the same words on both sides.
    @Test func offloadsCross() throws {
        let (outside, inside) = (try FramePort(name: "outside", time: .system), try FramePort(name: "inside", time: .system))
        let pair = try NetworkPair(backEnd: BackEnd(outside.device))
        let frontend = try NetworkFrontend(hypervisor: pair.guest, number: 0, device: inside.device)
        try frontend.connect(timeoutMilliseconds: 5000)
        let frame = TestFrame(version: 4, transport: .tcp, payload: 9000)
        for (from, to) in [(inside, outside), (outside, inside)] {
            try from.send(frame.bytes, offload: frame.segmented(1448))
            let got = try #require(try to.receive())
            expectSame(got.bytes, frame.bytes)
            #expect(got.offload.checksum == frame.blank.checksum)
            #expect(got.offload.segmentation == .init(type: .tcp4, size: 1448, headerCount: 54))
        }
        frontend.close()
        pair.backend.stop()
    }

    @Test func errorsSayWhatAndHowLong() throws {
        let port = try FramePort(name: "lonely", time: .system)
        #expect(throws: FramePortError.badLength("lonely", 0)) { try port.send([]) }
        #expect(throws: FramePortError.badLength("lonely", 65_536)) { try port.send([UInt8](repeating: 0, count: 65_536)) }
        let none = try port.receive(timeout: .milliseconds(20))
        #expect(none == nil)
        #expect(throws: FramePortError.full("lonely", waited: .milliseconds(30))) {
            for _ in 0..<100_000 { try port.send([UInt8](repeating: 0, count: 65_535), timeout: .milliseconds(30)) }
        }
        #expect("\(FramePortError.badLength("lonely", 0))" == "lonely: 0 bytes are no frame; 1 to 65535 are")
    }

    /// Examples/FramesInMemory, as it stands.
    @Test func theExampleRuns() throws {
        let run = try BuiltProgram("frames-in-memory").run()
        #expect(run.status == 0)
        #expect(run.output == "out: 64 bytes, type 88b5\nin: 9014 bytes\nmore: none\n")
    }
}
