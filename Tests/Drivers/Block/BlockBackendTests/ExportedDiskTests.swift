// A disk that can be reached in another way, too: it is told of, let go in time, and one driver's at a time.

import BlockBackend
import BlockDevices
import BlockFrontend
import DriverRuntime
import LinuxSystem
import Synchronization
import TestHosts
import TestSupport
import Testing
import XenBus

/// Notes what it is told.
private final class NotingExporter: DeviceExporter {
    let seen = LineCollector()
    let use = DeviceUse()
    let isLeft: Bool

    init(isLeft: Bool = false) { self.isLeft = isLeft }

    func isLeft(_ id: DeviceID) -> Bool { isLeft }
    func changed(_ id: DeviceID, _ device: (any BlockDevice)?) { seen.add(device == nil ? "\(id) gone" : "\(id) open") }
    func use(of id: DeviceID) -> DeviceUse { use }
}

@Suite("A disk that is exported, too", .timeLimit(.minutes(1)))
struct ExportedDiskTests {
    @Test("its frontend is refused while another driver has it, and the other while the frontend has it")
    func oneAtATime() throws {
        let exporter = NotingExporter()
        let pair = try BlockPair(exporter: exporter)
        defer { pair.backend.stop() }
        #expect(eventually(5000) { exporter.seen.all == ["1/51712 open"] }, "\(exporter.seen.all)")
        #expect(exporter.use.take(for: .exported))
        #expect(throws: BlockFrontendError.self) { _ = try pair.connect() }
        let text = try pair.toolstack.store.read(pair.paths.backendPath.replacing("/backend/", with: "/error/backend/") + "/error")
        #expect(text.contains("in use by another driver"), "\(text)")
        exporter.use.release(by: .exported)
    }

    @Test("a connected frontend has the disk until it closes; then the other may have it")
    func released() throws {
        let exporter = NotingExporter()
        let pair = try BlockPair(exporter: exporter)
        let frontend = try pair.connect()
        var queue = try frontend.takeQueue(0)
        #expect(try queue.perform(.read, byteCount: 4096) == .okay)
        #expect(!exporter.use.take(for: .exported))
        frontend.close()
        #expect(eventually(5000) { exporter.use.take(for: .exported) })
        pair.backend.stop()
        #expect(exporter.seen.all == ["1/51712 open", "1/51712 gone"])
    }

    @Test("a disk whose driver waits for it is not looked for among other programs' files", arguments: [true, false])
    func left(isLeft: Bool) throws {
        let opened = LineCollector()
        let pair = try BlockPair(
            opener: { settings throws(DeviceOpenFailure) in
                opened.add("\(settings.isTakenOver)")
                return try openFile(settings)
            }, exporter: NotingExporter(isLeft: isLeft))
        defer { pair.backend.stop() }
        #expect(eventually(5000) { opened.all == ["\(isLeft)"] }, "\(opened.all)")
    }

    @Test("a use is one user's, and only he gives it back")
    func uses() {
        let use = DeviceUse()
        #expect(use.take(for: .frontend) && use.take(for: .frontend) && !use.take(for: .exported))
        use.release(by: .exported)
        #expect(!use.take(for: .exported))
        use.release(by: .frontend)
        #expect(use.take(for: .exported))
    }
}
