// A backend dies under a frontend in the same process, and its successor goes on with the same rings: real files, real
// rings.

@testable import BlockBackend
import BlockFrontend
import Foundation
import LinuxSystem
import Testing
import TestSupport

extension RunningBackend {
    /// The threads stop where they are, before anything else is taken from them: a thread that lost its hypervisor
    /// would answer with errors, which a killed one cannot.
    func killAtOnce() {
        service.abandon()
        join()
        kill()
    }
}

@Suite("Adoption", .serialized) struct AdoptionTests {
    private func options(_ pair: TemporaryDirectory) -> BlockBackendOptions {
        var options = BlockBackendOptions()
        options.journalDirectory = pair.path + "/journal"
        return options
    }

    @Test(
        "a killed backend's successor goes on: no close cycle, all data there", .timeLimit(.minutes(1)),
        arguments: [true, false])
    func killed(persistent: Bool) throws {
        let journals = try TemporaryDirectory()
        var options = options(journals)
        options.persistentGrants = persistent
        let pair = try BlockPair(backendOptions: options, backendDomain: 3)
        let frontend = try pair.connect()
        var queue = try frontend.takeQueue(0)
        var backend = pair.backend
        var expected: [Int: [UInt8]] = [:]
        for round in 0..<6 {
            for block in 0..<16 {
                // Half of them before it dies, half while nobody is there.
                if block == 8 {
                    queue.kick()
                    backend.killAtOnce()
                    #expect(try pair.node("state") == "4")
                }
                let bytes = pattern(16384, seed: round * 100 + block)
                expected[block] = bytes
                queue.buffer.write(bytes, at: block * 16384)
                #expect(
                    try queue.submit(
                        .write, sector: UInt64(block * 32), bufferOffset: block * 16384, byteCount: 16384,
                        tag: UInt64(block)))
            }
            queue.kick()
            backend = try RunningBackend(pair.host, domain: 3, options)
            let ended = try queue.waitForAll()
            #expect(ended.count == 16)
            #expect(ended.allSatisfy { $0.outcome == .okay })
        }
        #expect(try pair.node("state") == "4")
        #expect(backend.log.contains { $0.contains("taken over") })
        #expect(frontend.connectionCount == 1, "the frontend noticed")
        frontend.close()
        backend.stop()
        let file = try Data(contentsOf: URL(fileURLWithPath: pair.image))
        for (block, bytes) in expected { expectSame(file[block * 16384..<(block + 1) * 16384], bytes, "block \(block)") }
    }

    @Test("a backend that is stopped hands over; without a journal it closes", .timeLimit(.minutes(1)))
    func stopped() throws {
        let journals = try TemporaryDirectory()
        let pair = try BlockPair(backendOptions: options(journals), backendDomain: 3)
        let frontend = try pair.connect()
        var queue = try frontend.takeQueue(0)
        #expect(try queue.perform(.read, byteCount: 4096) == .okay)
        pair.backend.stop()
        #expect(try pair.node("state") == "4")
        let next = try RunningBackend(pair.host, domain: 3, options(journals))
        #expect(try queue.perform(.read, byteCount: 4096) == .okay)
        next.stop()
        // The last one serves without a journal: it finds state 4, holds nothing, and asks for a close cycle.
        let last = try RunningBackend(pair.host, domain: 3)
        let deadline = monotonicMilliseconds() + 5000
        while try pair.node("state") == "4", monotonicMilliseconds() < deadline { sleepMilliseconds(5) }
        #expect(try pair.node("state") != "4")
        frontend.close()
        last.stop()
    }
}
