// How a controller is started, whatever state it is in, and what is refused.

import BlockDevices
import DMA
import LinuxSystem
@testable import NVMe
import NVMeModel
import Reactor
import Testing
import TestSupport

@Suite struct NVMeStartTests {
    private func refusal(_ settings: ModelSettings, namespace: UInt32? = nil) -> NVMeError? {
        let model = ModelController(settings)
        do throws(NVMeError) {
            let controller = try NVMeController(model, time: ManualClock()) { _ in }
            _ = try NVMeDisk(controller, namespace: namespace, name: "nvme:model")
            return nil
        } catch {
            #expect(model.violations == [])
            #expect(model.memoryModel.count == 0)
            return error
        }
    }

    /// The firmware left it running with queues of its own, or it was off.
    @Test(arguments: [true, false]) func start(isRunning: Bool) throws {
        var settings = ModelSettings()
        settings.isRunning = isRunning
        let model = ModelController(settings)
        do {
            let controller = try NVMeController(model, time: ManualClock()) { _ in }
            #expect(model.starts == 1)
            #expect(controller.queueLimit == 4)
            #expect(controller.description == "model: MODEL, serial SERIAL, firmware FW, up to 4 queues")
            #expect(model.memoryModel.count == 1)
        }
        #expect(model.wasShutDown)
        #expect(!model.isEnabled)
        #expect(model.isCutOff)
        #expect(model.memoryModel.count == 0)
        #expect(model.violations == [])
    }

    @Test func neverReady() {
        var settings = ModelSettings()
        settings.neverReady = true
        #expect(refusal(settings) == .notReady(true, milliseconds: 2000, status: 0))
        #expect("\(NVMeError.notReady(true, milliseconds: 2000, status: 0))" == "it did not become ready in 2000 ms (CSTS 0x0)")
    }

    @Test func namespaces() {
        var settings = ModelSettings()
        settings.namespaces = [3: (9, 100, 0), 5: (12, 100, 0)]
        #expect(refusal(settings) == .whichNamespace([3, 5]))
        #expect(refusal(settings, namespace: 1) == .noNamespace(1, active: [3, 5]))
        #expect(refusal(settings, namespace: 5) == nil)
        settings.namespaces = [2: (9, 100, 8)]
        #expect(refusal(settings) == .metadata(2, byteCount: 8))
        settings.namespaces = [2: (13, 100, 0)]
        #expect(refusal(settings) == .blockSize(2, shift: 13))
        settings.namespaces = [:]
        #expect(refusal(settings) == .noNamespace(1, active: []))
    }

    @Test func geometry() throws {
        var settings = ModelSettings()
        settings.namespaces = [1: (12, 100, 0)]
        settings.hasCache = false
        let controller = try NVMeController(ModelController(settings), time: ManualClock()) { _ in }
        let disk = try NVMeDisk(controller, namespace: nil, name: "nvme:model")
        #expect(
            disk.geometry
                == BlockGeometry(
                    byteCount: 409600, logicalSectorSize: 4096, physicalSectorSize: 4096, discard: DiscardLimits(granularity: 4096),
                    zeroes: .canUnmap, canFlush: false))
        #expect(try disk.refreshGeometry() == disk.geometry)
        #expect(throws: NVMeError.inUse(1)) { try NVMeDisk(controller, namespace: 1, name: "again") }
    }

    /// One vector serves all, and a second queue finds none left.
    @Test func oneVector() throws {
        var settings = ModelSettings()
        settings.vectors = 1
        let harness = try NVMeHarness(settings)
        #expect(harness.disk.queueLimit == 1)
        #expect(try harness.perform(.write(offset: 0), [harness.segment(0, 4096)]) == .done)
        #expect(throws: Errno.busy) {
            try harness.reactor.run { () -> Result<Void, Errno> in
                do throws(Errno) {
                    _ = try harness.disk.openQueue(on: harness.reactor, bus: MemoryBus(), depth: 8, owner: harness)
                    return .success(())
                } catch { return .failure(error) }
            }.get()
        }
        harness.close()
        #expect(harness.model.queueCount == 0)
        #expect(harness.model.violations == [])
    }

    /// Memory that cannot be mapped is an error, and leaves nothing.
    @Test func noRoom() throws {
        let model = ModelController()
        model.memoryModel.room = 1
        #expect(throws: Errno.noMemory) { try NVMeHarness(model) }
        #expect(eventually { model.memoryModel.count == 0 })
        #expect(model.violations == [])
    }

    @Test func targets() throws {
        let address = try #require(PCIAddress("0000:00:04.0"))
        #expect(try DeviceTarget("nvme:0000:00:04.0") == .nvme(address, namespace: nil))
        #expect(try DeviceTarget("nvme:00:04.0/3") == .nvme(address, namespace: 3))
        #expect(try DeviceTarget("nvme:0000:00:04.0/ns3") == .nvme(address, namespace: 3))
        #expect(try DeviceTarget("nvme://0000:00:04.0/1") == .nvme(address, namespace: 1))
        for wrong in [
            "nvme:", "nvme:4", "nvme:0000:00:04.8", "nvme:0000:00:20.0", "nvme:0000:00:04.0/0", "nvme:0000:00:04.0/",
            "nvme:0000:00:04.0/1/2",
        ] {
            #expect(throws: DeviceError.self) { try DeviceTarget(wrong) }
        }
    }

    /// What the status means to a disk's user.
    @Test func statuses() {
        #expect(NVMeStatus(rawValue: 0x4080).errno == .invalidArgument)
        #expect(NVMeStatus(rawValue: 0x281).errno == .ioError)
        #expect(NVMeStatus(rawValue: 0x81).errno == .noSpace)
        #expect(NVMeStatus(rawValue: 0x001).errno == .notSupported)
        #expect(NVMeStatus(rawValue: 0x281).mayRetry)
        #expect(!NVMeStatus(rawValue: 0x4281).mayRetry)
        #expect(!NVMeStatus(rawValue: 0).mayRetry)
        #expect(NVMeStatus(rawValue: 0x1081).retryDelay == 2)
        #expect("\(NVMeStatus(rawValue: 0x4002))" == "status 0x4002 (generic 2: invalid field)")
    }

    /// The count on the wire is one less, and a forced write says so.
    @Test func wire() {
        let write = NVMeCommand.transfer(write: true, namespace: 7, block: 0x1_0000_0002, count: 1, isForced: true)
        #expect(write.opcode == 1 && write.namespace == 7 && write.words10 == 0x1_0000_0002 && write.words12 == 1 << 30)
        #expect(NVMeCommand.transfer(write: false, namespace: 1, block: 0, count: 65536).words12 == 0xFFFF)
        #expect(NVMeCommand.setQueueCount(4).words10 == 7 | 0x0003_0003 << 32)
        #expect(
            NVMeCommand.createCompletionQueue(2, entries: 256, vector: 3, at: DeviceAddress(rawValue: 0x1000)).words10
                == 0x00FF_0002 | 0x0003_0003 << 32)
        #expect(MemoryLayout<NVMeCommand>.stride == 64)
    }

    /// One that does not say what it is, and then says that it still runs, is left like any other.
    @Test func whoeverNeverSaidWhatItIsIsLeft() {
        var settings = ModelSettings()
        settings.saysEnabled = true
        let model = ModelController(settings)
        // Identify.
        model.whenCommand { $0.opcode == 6 ? .fail(2) : .perform }
        #expect(throws: NVMeError.self) { _ = try NVMeController(model, time: ManualClock()) { _ in } }
        #expect(!model.isEnabled)
    }
}
