// Reads and writes through the pair, onto a real file.

import BlockBackend
import BlockFrontend
import Foundation
import LinuxSystem
import SharedMemory
import Testing
import TestSupport

@Suite(.timeLimit(.minutes(1)))
struct DataPathTests {
    @Test func readsWhatTheFileHolds() throws {
        let pair = try BlockPair()
        let frontend = try pair.connect()
        var queue = try frontend.takeQueue(0)
        #expect(queue.properties.sectors == 8192)
        #expect(try queue.perform(.read, sector: 16, bufferOffset: 0, byteCount: 8192) == .okay)
        #expect(queue.buffer.load(0, as: UInt64.self) == 16)
        #expect(queue.buffer.load(8184, as: UInt64.self) == 31)
        frontend.close()
        pair.backend.stop()
    }

    @Test func writesReachTheFile() throws {
        let pair = try BlockPair()
        let frontend = try pair.connect()
        var queue = try frontend.takeQueue(0)
        queue.buffer.fill(4096, count: 1 << 20, with: 0xAB)
        #expect(try queue.perform(.write, sector: 9, bufferOffset: 4096, byteCount: 1 << 20) == .okay)
        #expect(try queue.perform(.flush) == .okay)
        let file = try Data(contentsOf: URL(fileURLWithPath: pair.image))
        #expect(file[9 * 512] == 0xAB && file[9 * 512 + (1 << 20) - 1] == 0xAB)
        #expect(file[9 * 512 - 1] == 0 && file[9 * 512 + (1 << 20)] != 0xAB)
        frontend.close()
        pair.backend.stop()
    }

    /// Examples/BlockInMemory, as it stands.
    @Test func theExampleRuns() throws {
        let run = try BuiltProgram("block-in-memory").run()
        #expect(run.status == 0)
        #expect(run.output == "1048576 bytes; sector 8 is read as it was written\n")
    }
}
