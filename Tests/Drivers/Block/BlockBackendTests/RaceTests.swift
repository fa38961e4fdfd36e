// What is decided by who is faster, again and again: whoever that is, everybody gets an answer, and nothing is left.

import BlockBackend
import BlockProtocol
import DriverRuntime
import LinuxSystem
import MockPeers
import SharedMemory
import SharedRing
import Synchronization
import TestHosts
import Testing
import TestSupport

@Suite(.serialized, .timeLimit(.minutes(2))) struct RaceTests {
    /// One request after another, each answered before the next: the backend goes to sleep, or is about to, whenever
    /// one comes. A ring that is lost between its last look and its sleep is a request without an answer.
    @Test func M9_aRequestFindsTheBackendAwakeAsleepOrInBetween() throws {
        var options = BlockBackendOptions()
        options.polling = .sleep
        // Looking for another size wakes a backend, too.
        options.resizePollMilliseconds = 0
        let pair = try BlockPair(backendOptions: options)
        let raw = try MockBlockFrontend(pair)
        try Schedules.each(seed: 1) { round in
            for id in 0..<400 {
                // From none to 200 microseconds after an answer was seen: about as long as a backend takes to fall
                // asleep.
                let end = monotonicNanoseconds() + UInt64((id * 7 + round * 13) % 100) * 2000
                while monotonicNanoseconds() < end {}
                raw.send(BlockRequest(.flush, id: UInt64(id)))
                try #require(try isAnswered(raw), "round \(round), request \(id)")
            }
        }
        try raw.close()
        pair.backend.stop()
    }

    /// Waits for an answer without ever sleeping: who asks the next moment is as near as can be to the backend's last
    /// look.
    private func isAnswered(_ raw: MockBlockFrontend) throws -> Bool {
        let end = monotonicMilliseconds() + 3000
        repeat {
            for _ in 0..<1000 { if try raw.front.nextResponse() != nil { return true } }
        } while monotonicMilliseconds() < end
        return false
    }

    /// A frontend leaves with requests on their way, while its fields change and its backend's counters are read.
    @Test func M9_aFrontendLeavesWhileItsRequestsAreTaken() throws {
        let pair = try BlockPair()
        let before = pair.host.usage
        let over = StopFlag()
        let backend = pair.backend
        let looker = try WorkerThread(name: "looker") {
            while !over.isSet { for device in backend.service.status { _ = device.queues.map(\.reads) } }
        }
        try Schedules.each(seed: 2) { round in
            let raw = try MockBlockFrontend(pair, persistent: round % 2 == 0)
            let region = raw.ring.region
            let stop = StopFlag()
            let racer = try WorkerThread(name: "racer") {
                while !stop.isSet {
                    for slot in 0..<32 {
                        region.store(UInt8(255), at: 64 + slot * 112 + 1)
                        region.store(UInt8(1), at: 64 + slot * 112 + 1)
                    }
                }
            }
            defer {
                stop.set()
                racer.join()
            }
            for id in 0..<32 { _ = raw.front.push(raw.request(.write, sector: UInt64(id) * 8, page: id, id: UInt64(id))) }
            if raw.front.publish() { raw.channel.notify() }
            for _ in 0..<round { _ = try raw.receive() }
            try raw.close()
            try pair.restartFrontend()
        }
        over.set()
        looker.join()
        pair.backend.stop()
        expectBaseline(pair.host, before)
    }
}
