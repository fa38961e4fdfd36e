// Rings that are lost on their way: a frontend looks again, slowly, and rings again.

import LinuxSystem
import MockPeers
import Testing
import TestSupport

@Suite(.timeLimit(.minutes(1))) struct LostRingTests {
    @Test("a frame whose ring is lost arrives all the same")
    func lostFrame() throws {
        let pair = try MockBackendPair()
        defer { pair.end() }
        #expect(try pair.serves())
        // The frontend sleeps by now.
        sleepMilliseconds(100)
        let bytes = plainFrame(90, seed: 4)
        try pair.backend.frame(bytes, rings: false)
        #expect(try pair.wire.receive(milliseconds: 5000)?.frame == bytes)
    }

    @Test("a backend that did not hear of what it asked to hear of is rung again")
    func lostRequest() throws {
        let pair = try MockBackendPair()
        defer { pair.end() }
        let bell = try #require(pair.backend.bell)
        // This backend takes none of the pages that it asked to hear of, so each second it seems not to have heard.
        for _ in 0..<2 {
            bell.acknowledge()
            bell.unmask()
            #expect(try waitReadable(bell.descriptor.rawValue, milliseconds: 5000))
        }
    }
}
