// The pair under every memory model and IOMMU mode, with devices whose limits force bounces and splits: what is written
// is read back, and is in the file. And that this would notice a wrong translation.

import BlockBackend
import BlockFrontend
import DMA
import Foundation
import FrameMaps
import SharedMemory
import Testing
import TestSupport

@Suite(.timeLimit(.minutes(2)), .serialized)
struct MemoryModelTests {
    /// Writes patterns at places of all sizes, reads them back through the pair, and compares with the file; how many
    /// differed.
    private func verify(_ dma: DMAOptions, persistent: Bool) throws -> (wrong: Int, statistics: BackendQueueStatistics?) {
        var options = BlockBackendOptions()
        options.dma = dma
        options.persistentGrants = persistent
        let pair = try BlockPair(backendOptions: options)
        let frontend = try pair.connect()
        var queue = try frontend.takeQueue(0)
        var wrong = 0
        for (round, (sector, count)) in [(0, 512), (7, 4096), (16, 8192), (33, 65536), (300, 12800), (1000, 262_144)]
            .enumerated()
        {
            let bytes = pattern(count, seed: round + 1)
            queue.buffer.write(bytes, at: 512)
            if try queue.perform(.write, sector: UInt64(sector), bufferOffset: 512, byteCount: count) != .okay {
                wrong += 1
            }
            queue.buffer.fill(0, count: count + 1024, with: 0x55)
            if try queue.perform(.read, sector: UInt64(sector), bufferOffset: 512, byteCount: count) != .okay {
                wrong += 1
            }
            if queue.buffer.bytes(at: 512, count: count) != bytes { wrong += 1 }
            // Nothing around it was touched.
            if queue.buffer.bytes(at: 0, count: 512) != [UInt8](repeating: 0x55, count: 512) { wrong += 1 }
            if queue.buffer.bytes(at: 512 + count, count: 512) != [UInt8](repeating: 0x55, count: 512) { wrong += 1 }
            let file = try Data(contentsOf: URL(fileURLWithPath: pair.image))
            if Array(file[sector * 512..<sector * 512 + count]) != bytes { wrong += 1 }
        }
        let statistics = pair.backend.service.status.first?.queues.first
        frontend.close()
        pair.backend.stop()
        return (wrong, statistics)
    }

    @Test(arguments: memoryKinds)
    func everyKindVerifies(_ dma: DMAOptions) throws {
        #expect(try verify(dma, persistent: true).wrong == 0)
        #expect(try verify(dma, persistent: false).wrong == 0)
    }

    /// A device that translates one frame off is noticed by the same run, whatever the model.
    @Test(arguments: MemoryModel.allCases, [nil, IommuMode.strict])
    func aWrongTranslationIsNoticed(_ model: MemoryModel, _ iommu: IommuMode?) throws {
        var dma = DMAOptions(model: model, iommu: iommu, constraints: DMAConstraints(mask: .max >> 1))
        dma.frameError = 1
        #expect(try verify(dma, persistent: true).wrong > 0)
    }

    /// The pool is shared by the queues that are connected, not by those that were offered: one queue has all of it.
    @Test func oneQueueHasTheWholePool() throws {
        var options = BlockBackendOptions()
        options.queues = 4
        options.dma = DMAOptions(model: .p2m, constraints: DMAConstraints(mask: 0xFFFF_FFFF), bouncePool: 1_400_000)
        let pair = try BlockPair(backendOptions: options)
        let frontend = try pair.connect()
        var queue = try frontend.takeQueue(0)
        // Of 256 pages, each bounced.
        let bytes = pattern(1 << 20, seed: 3)
        queue.buffer.write(bytes, at: 0)
        #expect(try queue.perform(.write, sector: 0, bufferOffset: 0, byteCount: bytes.count) == .okay)
        frontend.close()
        pair.backend.stop()
        #expect(pair.backend.log.filter { $0.contains("cannot be mapped") }.isEmpty)
    }

    /// attacks.md PM22: a device that faults at every access costs a count and a line a second in the log, the first
    /// fault among its words; and it is this device alone.
    @Test func PM22_aFaultStormIsALineASecond() throws {
        var options = BlockBackendOptions()
        options.dma = DMAOptions(model: .p2m, iommu: .strict)
        // Every frame leads to where there is no memory.
        options.dma.frameError = 1 << 30
        let pair = try BlockPair(backendOptions: options)
        let frontend = try pair.connect()
        var queue = try frontend.takeQueue(0)
        let (begun, limit) = (ContinuousClock.now, Duration.milliseconds(2500))
        var refused = 0
        while begun.duration(to: .now) < limit {
            if try queue.perform(.write, sector: 0, bufferOffset: 0, byteCount: 65536) != .okay { refused += 1 }
        }
        let seconds = Int(begun.duration(to: .now).components.seconds)
        // The last requests' may not be in the status yet.
        let faults = pair.backend.service.status.first?.queues.first?.memory.faults ?? 0
        frontend.close()
        pair.backend.stop()
        let lines = pair.backend.log.filter { $0.contains("accesses refused by the IOMMU") }
        #expect(refused > 100 && faults + 8 >= UInt64(refused), "\(refused) requests, \(faults) faults")
        #expect((2...seconds + 2).contains(lines.count), "\(lines)")
        #expect(lines.first?.contains("no memory behind the frame") == true, "\(lines)")
    }
}
