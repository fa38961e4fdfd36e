// A frontend's rate, by a clock that the test sets.

import LinuxSystem
import MockPeers
import NetworkBackend
import NetworkProtocol
import TestHosts
import Testing
import TestSupport
import XenTypes

@Suite(.timeLimit(.minutes(1)))
struct RateTests {
    /// What a rate allows at once goes through at once; then nothing does before the period is over, by the backend's
    /// clock.
    @Test func aPacketBeyondTheRateWaitsForThePeriodsEnd() throws {
        let clock = ManualClock()
        var options = NetworkBackendOptions()
        // A reactor that spins for a while, which by this clock never ends, sets no timer meanwhile.
        options.polling = .sleep
        let pair = try NetworkPair(options, host: TestHost(time: clock))
        // 131,072 bytes in half a second.
        try pair.toolstack.store.write(pair.paths.backendPath + "/rate", "131072,500000")
        let raw = try MockNetworkFrontend(pair)
        try raw.wait(for: [.connected])
        raw.data.region.write(plainFrame(1024, seed: 3), at: 0)
        func send(_ count: Int) throws {
            raw.send((0..<count).map { raw.request(size: 1024, id: $0) })
            #expect(try raw.answers(count).allSatisfy { $0.status == .okay })
            for _ in 0..<count { #expect(try pair.backWire.receive() != nil) }
        }
        func hasAnswer(_ milliseconds: Int64) -> Bool { (try? raw.answers(1, milliseconds: milliseconds)) != nil }
        for _ in 0..<16 { try send(8) }
        raw.send([raw.request(size: 1024, id: 200)])
        // Longer than the period; but the clock stands still.
        #expect(!hasAnswer(700))
        clock.advance(milliseconds: 499)
        #expect(!hasAnswer(700))
        clock.advance(milliseconds: 1)
        #expect(hasAnswer(3000))
        try raw.close()
        pair.backend.stop()
    }

    @Test("what one queue has sent of an interface's rate another has not: no more passes in all")
    func theRateIsTheInterfaces() throws {
        let clock = ManualClock()
        var options = NetworkBackendOptions()
        options.polling = .sleep
        let pair = try NetworkPair(options, host: TestHost(time: clock))
        try pair.toolstack.store.write(pair.paths.backendPath + "/rate", "131072,500000")
        let raw = try MockNetworkFrontend(pair, queues: 2)
        try raw.wait(for: [.connected])
        raw.data.region.write(plainFrame(1024, seed: 3), at: 0)
        for turn in 0..<16 {
            raw.send((0..<8).map { raw.request(size: 1024, id: $0) }, queue: turn % 2)
            #expect(try raw.answers(8, queue: turn % 2).allSatisfy { $0.status == .okay })
            for _ in 0..<8 { #expect(try pair.backWire.receive() != nil) }
        }
        // Each has sent half of it.
        for queue in 0..<2 {
            raw.send([raw.request(size: 1024, id: 200)], queue: queue)
            #expect((try? raw.answers(1, queue: queue, milliseconds: 700)) == nil, "queue \(queue)")
        }
        clock.advance(milliseconds: 500)
        for queue in 0..<2 { #expect(try raw.answers(1, queue: queue, milliseconds: 3000).count == 1) }
        try raw.close()
        pair.backend.stop()
    }
}
