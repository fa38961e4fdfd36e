// Order, partial failure and lost features, on a disk that ends its operations when the test says so.

import BlockBackend
import BlockDevices
import BlockFrontend
import BlockProtocol
import DriverRuntime
import Foundation
import LinuxSystem
import MockPeers
import ScriptedDevices
import SharedMemory
import TestHosts
import TestSupport
import Testing

@Suite(.timeLimit(.minutes(1)))
struct OrderingTests {
    private func pair(_ disk: ScriptedDisk) throws -> BlockPair {
        try BlockPair(opener: { _ throws(DeviceOpenFailure) in disk })
    }

    @Test func rule8_answersInAnyOrder() throws {
        let disk = ScriptedDisk()
        let pair = try pair(disk)
        let raw = try MockBlockFrontend(pair)
        for id in 0..<8 { _ = raw.front.push(raw.request(.read, sector: UInt64(id) * 8, page: id, id: UInt64(id))) }
        if raw.front.publish() { raw.channel.notify() }
        #expect(disk.wait(for: 8))
        let order = [5, 0, 7, 3, 1, 6, 2, 4]
        for index in order {
            disk.end(index)
            #expect(try raw.receive().id == UInt64(index))
        }
        try raw.close()
        pair.backend.stop()
    }

    @Test func rule12_aBarrierWaitsForAllBefore_andHoldsBackAllAfter() throws {
        let disk = ScriptedDisk()
        let pair = try pair(disk)
        let raw = try MockBlockFrontend(pair)
        _ = raw.front.push(raw.request(.write, sector: 0, page: 0, id: 1))
        _ = raw.front.push(raw.request(.write, sector: 8, page: 1, id: 2))
        _ = raw.front.push(raw.request(.barrier, sector: 16, page: 2, id: 3))
        _ = raw.front.push(raw.request(.write, sector: 24, page: 3, id: 4))
        if raw.front.publish() { raw.channel.notify() }
        #expect(disk.wait(for: 2))
        sleepMilliseconds(30)
        // Neither the barrier nor what follows has begun.
        #expect(disk.operations == [.write(offset: 0), .write(offset: 4096)])
        disk.end(1)
        sleepMilliseconds(20)
        #expect(disk.operations.count == 2)
        disk.end(0)
        #expect(disk.wait(for: 3))
        #expect(disk.operations[2] == .flush)
        disk.end(2)
        #expect(disk.wait(for: 4))
        #expect(disk.operations[3] == .write(offset: 8192))
        disk.end(3)
        #expect(disk.wait(for: 5))
        #expect(disk.operations[4] == .flush)
        sleepMilliseconds(20)
        #expect(disk.operations.count == 5)
        disk.end(4)
        // Only now the write behind it.
        #expect(disk.wait(for: 6))
        #expect(disk.operations[5] == .write(offset: 12288))
        disk.end(5)
        var ids: [UInt64] = []
        for _ in 0..<4 { ids.append(try raw.receive().id) }
        #expect(ids == [2, 1, 3, 4])
        try raw.close()
        pair.backend.stop()
    }

    @Test func rule12_aDiskThatWritesDurablyIsFlushedOnceForABarrier() throws {
        var geometry = BlockGeometry(byteCount: 4 << 20)
        geometry.writesDurably = true
        let disk = ScriptedDisk(geometry) { _ in .done }
        let pair = try pair(disk)
        let raw = try MockBlockFrontend(pair)
        raw.send(raw.request(.barrier, sector: 8, page: 0, id: 1))
        #expect(try raw.receive().status == .okay)
        raw.send(raw.request(.write, sector: 8, page: 0, id: 2))
        #expect(try raw.receive().status == .okay)
        #expect(disk.operations == [.flush, .write(offset: 4096, isDurable: true), .write(offset: 4096)])
        try raw.close()
        pair.backend.stop()
    }

    @Test func rule13_aFlushWithDataIsAWriteAfterAFlush_andOneWithoutIsAFlush() throws {
        let disk = ScriptedDisk()
        let pair = try pair(disk)
        let raw = try MockBlockFrontend(pair)
        raw.send(BlockRequest(.flush, id: 1))
        #expect(disk.wait(for: 1))
        disk.end(0)
        #expect(try raw.receive().status == .okay)
        raw.send(raw.request(.flush, sector: 8, page: 1, id: 2))
        #expect(disk.wait(for: 2))
        #expect(disk.operations == [.flush, .flush])
        disk.end(1)
        #expect(disk.wait(for: 3))
        #expect(disk.operations[2] == .write(offset: 4096))
        disk.end(2)
        #expect(try raw.receive().id == 2)
        try raw.close()
        pair.backend.stop()
    }

    @Test func rule11_aFailureIsThatRequestsAlone() throws {
        let disk = ScriptedDisk()
        let pair = try pair(disk)
        let raw = try MockBlockFrontend(pair)
        for id in 0..<3 { _ = raw.front.push(raw.request(.write, sector: UInt64(id) * 8, page: id, id: UInt64(id))) }
        if raw.front.publish() { raw.channel.notify() }
        #expect(disk.wait(for: 3))
        disk.end(0)
        disk.end(1, .failed(.noSpace))
        disk.end(2)
        let answers = [try raw.receive(), try raw.receive(), try raw.receive()]
        #expect(answers.map { $0.status } == [.okay, .error, .okay])
        // A barrier whose first flush fails writes nothing.
        raw.send(raw.request(.barrier, sector: 64, page: 5, id: 9))
        #expect(disk.wait(for: 4))
        disk.end(3, .failed(.ioError))
        #expect(try raw.receive().status == .error)
        #expect(disk.operations.count == 4)
        try raw.close()
        pair.backend.stop()
    }

    @Test func rule15_anOperationThatTheDiskRefusesIsWithdrawn() throws {
        let disk = ScriptedDisk { operation in
            switch operation {
            case .discard, .flush: .failed(.notSupported)
            default: .done
            }
        }
        let pair = try pair(disk)
        let raw = try MockBlockFrontend(pair)
        #expect(try pair.node("feature-discard") == "1")
        #expect(try raw.ask(BlockRequest(discarding: 8, at: 0, id: 1)) == .unsupported)
        #expect(try raw.ask(BlockRequest(.flush, id: 2)) == .unsupported)
        // The three nodes are written one after another.
        let keys = ["feature-discard", "feature-flush-cache", "feature-barrier"]
        _ = try eventually { try keys.allSatisfy { try pair.node($0) == "0" } }
        #expect(try pair.node("feature-discard") == "0")
        #expect(try pair.node("feature-flush-cache") == "0")
        #expect(try pair.node("feature-barrier") == "0")
        // Asked again, the disk is not bothered.
        let before = disk.operations.count
        #expect(try raw.ask(BlockRequest(discarding: 8, at: 0, id: 3)) == .unsupported)
        #expect(disk.operations.count == before)
        #expect(try raw.ask(raw.request(.read, sector: 0)) == .okay)
        try raw.close()
        pair.backend.stop()
    }

    @Test func A34_aQueueClosesOnlyWhenTheDiskIsDone() throws {
        let disk = ScriptedDisk()
        let pair = try pair(disk)
        let mapped = pair.host.usage.mappings
        let raw = try MockBlockFrontend(pair)
        raw.send(raw.request(.read, sector: 0, page: 0, id: 1))
        #expect(disk.wait(for: 1))
        try raw.store.write(raw.path + "/state", "6")
        sleepMilliseconds(50)
        // The page is still the disk's to write.
        #expect(pair.host.usage.mappings > mapped)
        #expect(try raw.store.state(of: raw.backendPath) == .connected)
        disk.end(0)
        try raw.waitForBackend([.closed])
        #expect(pair.host.usage.mappings == mapped)
        pair.backend.stop()
    }

    @Test func rule4_aBusyRingRingsRarely() throws {
        let pair = try BlockPair()
        var options = BlockFrontendOptions()
        options.depth = 32
        let frontend = try pair.connect(options)
        var queue = try frontend.takeQueue(0)
        let load = BlockLoad(.read, blockSize: 4096, depth: 32, milliseconds: 500, polls: false)
        let result = try queue.measure(load)
        #expect(result.failures == 0 && result.operations > 500)
        // 0.03 to 0.06 on an idle machine in an optimized build; never ringing at all would hang.
        #expect(result.eventsPerOperation < 0.5, "\(result.eventsPerOperation)")
        frontend.close()
        pair.backend.stop()
    }

    @Test func aFrontendThatResumesAsksAgainOnNewRings() throws {
        let pair = try BlockPair()
        let frontend = try pair.connect()
        var queue = try frontend.takeQueue(0)
        for round in 0..<3 {
            for slot in 0..<8 {
                _ = try queue.submit(.read, sector: UInt64(slot), bufferOffset: slot * 512, byteCount: 512, tag: UInt64(slot))
            }
            queue.kick()
            frontend.resume()
            #expect(try queue.waitForAll().allSatisfy { $0.outcome == .okay })
            let deadline = monotonicMilliseconds() + 3000
            while frontend.connectionCount < round + 2, monotonicMilliseconds() < deadline { sleepMilliseconds(2) }
            #expect(frontend.connectionCount == round + 2)
        }
        #expect(queue.buffer.load(7 * 512, as: UInt64.self) == 7)
        frontend.close()
        pair.backend.stop()
    }
}
