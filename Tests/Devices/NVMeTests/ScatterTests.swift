// A machine without an IOMMU: each page of a region at a frame of its own, so that what are neighbours on the bus are
// none in the controller's commands.

import BlockDevices
import DMA
import LinuxSystem
import NVMeModel
import Testing
import TestSupport

@Suite struct NVMeScatterTests {
    private static func settings() -> ModelSettings {
        var settings = ModelSettings()
        settings.isScattered = true
        return settings
    }

    /// A page's address is its frame's, in the first place, the second and the list, and no made-up address of a window
    /// is in a command.
    @Test func frames() throws {
        let harness = try NVMeHarness(Self.settings())
        #expect(harness.base.rawValue >= 1 << 60)
        guard case .pages(let pages) = try #require(harness.model.memory.place(harness.region)) else {
            Issue.record("one run")
            return
        }
        for count in [4096, 8192, 65536] {
            #expect(try harness.perform(.read(offset: 0), [harness.segment(512, count)]) == .done)
        }
        let commands = harness.model.commands
        #expect(commands.map(\.prp1) == Array(repeating: pages[0].rawValue + 512, count: 3))
        #expect(commands[0].prp2 == pages[1].rawValue)
        let list = harness.model.memoryModel.read(commands[2].prp2, 16 * 8)
        let entries = (0..<16).map { entry in (0..<8).reduce(UInt64(0)) { $0 | UInt64(list[entry * 8 + $1]) << UInt64($1 * 8) } }
        #expect(entries == pages[1...16].map(\.rawValue))
        #expect(harness.model.violations == [])
        harness.model.memory.remove(harness.region)
        harness.close()
        #expect(harness.model.memoryModel.count == 1)
    }

    /// A request that waits for room when its memory is taken off the bus: its commands, which are made later, name the
    /// same frames.
    @Test func waitingOnesKeepTheirFrames() throws {
        let harness = try NVMeHarness(Self.settings())
        harness.region.fill(0, count: 16384, with: 5)
        harness.model.whenCommand { $0.isIO ? .hold : .perform }
        let tags = (0..<100).map { harness.begin(.write(offset: UInt64($0) * 16384), [harness.segment(0, 16384)]) }
        #expect(eventually { harness.model.held.count == 63 })
        harness.reactor.run { harness.bus.detach(harness.region) }
        #expect(harness.model.memoryModel.count == 3)
        harness.model.whenCommand { _ in .perform }
        harness.model.finish()
        for tag in tags { #expect(try harness.wait(tag) == .done) }
        #expect(harness.model.contents(1)[..<(100 * 16384)].allSatisfy { $0 == 5 })
        #expect(eventually { harness.model.memoryModel.count == 2 })
        #expect(harness.model.violations == [])
        harness.close()
    }

    /// After a reset the same frames are given again, queues and lists among them.
    @Test func reset() throws {
        let harness = try NVMeHarness(Self.settings())
        harness.region.fill(0, count: 1 << 20, with: 6)
        harness.model.whenCommand { $0.isIO ? .hold : .perform }
        let tags = (0..<20).map { harness.begin(.write(offset: UInt64($0) << 16), [harness.segment($0 << 15, 1 << 16)]) }
        #expect(eventually { harness.model.held.count == 20 })
        harness.model.whenCommand { _ in .perform }
        harness.model.fail()
        for tag in tags { #expect(try harness.wait(tag) == .done) }
        #expect(harness.model.starts == 2)
        #expect(harness.model.contents(1)[..<(10 << 16)].allSatisfy { $0 == 6 })
        #expect(harness.model.violations == [])
        harness.close()
    }
}
