// Disks that go wrong on purpose: each kind is set, seen by an honest peer as Docs/break-it.md has it, undone, and then
// data are what was written.

import BlockBackend
import BlockDevices
import BlockFrontend
import DeviceControl
import DeviceFaults
import DriverRuntime
import LinuxSystem
import ScriptedDevices
import Synchronization
import Testing
import TestSupport

@Suite("faults of disks", .timeLimit(.minutes(1))) struct FaultTests {
    private func withRig(
        persistent: Bool = true, opener: DiskOpener? = nil, _ body: (FaultRig, inout BlockQueue) throws -> Void
    ) throws {
        var options = BlockFrontendOptions()
        options.persistentGrants = persistent
        let rig = try FaultRig(options, opener: opener)
        defer { rig.end() }
        var queue = try rig.frontend.takeQueue(0)
        try rig.expectHealth(&queue)
        try body(rig, &queue)
    }

    /// Milliseconds.
    private func timeOfRead(_ queue: inout BlockQueue) throws -> Int64 {
        let begun = monotonicMilliseconds()
        let outcome = try queue.perform(.read, byteCount: 4096)
        #expect(outcome == .okay)
        return monotonicMilliseconds() - begun
    }

    @Test("delay: an answer is late, others overtake it, a filter leaves the rest alone", arguments: [true, false])
    func delay(persistent: Bool) throws {
        try withRig(persistent: persistent) { rig, queue in
            try rig.set(.delay) {
                $0.milliseconds = 300
                $0.operations = [.read]
                $0.sectors = 8...15
            }
            #expect(try queue.submit(.read, sector: 8, bufferOffset: 0, byteCount: 4096, tag: 1))
            #expect(try queue.submit(.read, sector: 16, bufferOffset: 4096, byteCount: 4096, tag: 2))
            #expect(try queue.submit(.write, sector: 8, bufferOffset: 8192, byteCount: 4096, tag: 3))
            queue.kick()
            let begun = monotonicMilliseconds()
            let ended = try queue.waitForAll()
            let took = monotonicMilliseconds() - begun
            #expect(ended.last?.tag == 1 && ended.count == 3 && ended.allSatisfy { $0.outcome == .okay })
            #expect((250..<2000).contains(took), "\(took) ms")
            #expect(try rig.struck() == [1])
            try rig.clear()
            try rig.expectHealth(&queue)
        }
    }

    @Test("slow: one after the other, each taking its time") func slow() throws {
        try withRig { rig, queue in
            try rig.set(.slow) { $0.milliseconds = 60 }
            for tag in 0..<5 { #expect(try queue.submit(.read, sector: 0, byteCount: 4096, tag: UInt64(tag))) }
            queue.kick()
            let begun = monotonicMilliseconds()
            #expect(try queue.waitForAll().count == 5)
            let took = monotonicMilliseconds() - begun
            #expect((280..<2000).contains(took), "\(took) ms")
            try rig.clear()
            try rig.expectHealth(&queue)
        }
    }

    @Test("stall: nothing is done for a while, then all is, once") func stall() throws {
        try withRig { rig, queue in
            try rig.set(.stall) { $0.milliseconds = 400 }
            for tag in 0..<5 { #expect(try queue.submit(.read, sector: 0, byteCount: 4096, tag: UInt64(tag))) }
            queue.kick()
            let begun = monotonicMilliseconds()
            #expect(try queue.waitForAll().count == 5)
            let took = monotonicMilliseconds() - begun
            #expect((350..<2000).contains(took), "\(took) ms")
            #expect(try rig.struck() == [1])
            // It was once.
            try rig.expectHealth(&queue)
            try rig.clear()
        }
    }

    @Test("error: those requests fail that are meant, and no others; nothing is written", arguments: [true, false])
    func error(persistent: Bool) throws {
        try withRig(persistent: persistent) { rig, queue in
            try rig.set(.error) {
                $0.operations = [.write]
                $0.sectors = 8...15
                $0.count = 2
            }
            queue.buffer.fill(0, count: 4096, with: 0xEE)
            #expect(try queue.perform(.write, sector: 8, byteCount: 4096) == .failed)
            #expect(try queue.perform(.write, sector: 0, byteCount: 4096) == .okay)
            #expect(try queue.perform(.read, sector: 8, byteCount: 4096) == .okay)
            #expect(queue.buffer.load(0, as: UInt8.self) != 0xEE)
            #expect(try queue.perform(.write, sector: 15, byteCount: 512) == .failed)
            #expect(try queue.perform(.write, sector: 15, byteCount: 512) == .okay)
            #expect(try rig.struck() == [2])
            // The log says that the disk failed, as of any disk.
            #expect(
                eventually {
                    rig.pair.backend.log.contains { $0.contains("write at sector ") && $0.contains(": Input/output error") }
                })
            try rig.clear()
            try rig.expectHealth(&queue)
        }
    }

    @Test("reorder: the disk gets requests in another order, by the seed") func reorder() throws {
        func order(_ seed: UInt64) throws -> [DeviceOperation] {
            let disk = ScriptedDisk(immediate: { _ in .done })
            var order: [DeviceOperation] = []
            let rig = try FaultRig(opener: { (_) throws(DeviceOpenFailure) in disk })
            defer { rig.end() }
            var queue = try rig.frontend.takeQueue(0)
            try rig.set(.reorder) {
                $0.milliseconds = 200
                $0.seed = seed
            }
            for tag in 0..<8 { #expect(try queue.submit(.read, sector: UInt64(tag * 8), byteCount: 4096, tag: UInt64(tag))) }
            queue.kick()
            #expect(try queue.waitForAll().count == 8)
            order = disk.operations
            #expect(try rig.struck() == [8])
            try rig.clear()
            #expect(try queue.perform(.read, sector: 0, byteCount: 4096) == .okay)
            return order
        }
        let straight = (0..<8).map { DeviceOperation.read(offset: UInt64($0 * 4096)) }
        let first = try order(1)
        #expect(first != straight && Set(first.map { "\($0)" }) == Set(straight.map { "\($0)" }))
        #expect(try order(1) == first)
    }

    @Test("drop-event: the frontend finds the answer when it looks by itself", arguments: [true, false])
    func dropEvent(persistent: Bool) throws {
        try withRig(persistent: persistent) { rig, queue in
            try rig.set(.dropEvent) { $0.count = 1 }
            // A frontend that is awake asks for none.
            var took: Int64 = 0
            for _ in 0..<500 where try rig.struck() == [0] { took = try timeOfRead(&queue) }
            #expect(try rig.struck() == [1])
            #expect(took < 3000, "\(took) ms")
            try rig.clear()
            try rig.expectHealth(&queue)
        }
    }

    @Test("corrupt-status: a status that there is not is a failure") func corruptStatus() throws {
        try withRig { rig, queue in
            try rig.set(.corruptStatus) { $0.count = 1 }
            #expect(try queue.perform(.read, byteCount: 4096) == .failed)
            try rig.clear()
            try rig.expectHealth(&queue)
        }
    }

    @Test(
        "an answer to nothing, an index that cannot be, an answer twice: the frontend gives the backend up, and the next one is served",
        arguments: [DeviceFault.corruptID, .corruptIndex, .duplicate], [UInt64(1), 2])
    func broken(kind: DeviceFault, seed: UInt64) throws {
        var options = BlockFrontendOptions()
        options.takesFaults = true
        let rig = try FaultRig()
        defer { rig.pair.backend.stop() }
        do {
            defer { rig.frontend.close() }
            var queue = try rig.frontend.takeQueue(0)
            try rig.set(kind) { $0.seed = seed }
            for tag in 0..<4 { #expect(try queue.submit(.read, sector: 0, byteCount: 4096, tag: UInt64(tag))) }
            queue.kick()
            let ended = try queue.waitForAll()
            #expect(ended.contains { $0.outcome == .lost } && ended.count == 4, "\(ended)")
            guard case .backendBroken(let reason) = queue.failure else { throw TestFailure("\(String(describing: queue.failure))") }
            #expect(reason.contains(kind == .corruptIndex ? "producer index" : "a response that answers nothing"), "\(reason)")
            #expect(try rig.struck() == [1])
        }
        // It has struck, and strikes no more: whoever connects next has a disk.
        let next = try rig.pair.connect(options)
        defer { next.close() }
        var queue = try next.takeQueue(0)
        try rig.expectHealth(&queue)
        try rig.clear()
        try rig.expectHealth(&queue)
    }

    // MARK: The frontend's side

    @Test(
        "a frontend's page that nobody granted: its request fails, the others do not", arguments: [true, false], [4096, 1 << 18])
    func corruptGrant(persistent: Bool, byteCount: Int) throws {
        try withRig(persistent: persistent) { rig, queue in
            try rig.set(.corruptGrant, .front) { $0.count = 1 }
            #expect(try queue.perform(.write, byteCount: byteCount) == .failed)
            #expect(try queue.perform(.write, byteCount: byteCount) == .okay)
            #expect(try rig.struck(.front) == [1])
            try rig.clear()
            try rig.expectHealth(&queue)
        }
    }

    @Test("a frontend's index that cannot be: the backend ends the connection, and serves the next") func frontIndex() throws {
        try withRig { rig, queue in
            try rig.set(.corruptIndex, .front) { $0.seed = 3 }
            // It is asked again on the next ring.
            #expect(try queue.perform(.read, byteCount: 4096) == .okay)
            #expect(rig.pair.backend.log.contains { $0.contains("the frontend broke its ring: the peer's producer index") })
            #expect(queue.statistics.connections == 2)
            try rig.clear()
            try rig.expectHealth(&queue)
        }
    }

    @Test("a frontend that does not ring, and one that is late", arguments: [DeviceFault.dropEvent, .delay, .stall])
    func frontLate(kind: DeviceFault) throws {
        try withRig { rig, queue in
            try rig.set(kind, .front) {
                $0.count = 1
                if kind != .dropEvent { $0.milliseconds = 300 }
            }
            // A backend that is awake needs no ring.
            sleepMilliseconds(50)
            let took = try timeOfRead(&queue)
            #expect(try rig.struck(.front) == [1])
            #expect(took < 3000 && (kind == .dropEvent || took > 250), "\(took) ms")
            try rig.clear()
            try rig.expectHealth(&queue)
        }
    }

    // MARK: Lives

    @Test("a fault outlives connections, and what is held goes with the disk's end") func connections() throws {
        let rig = try FaultRig()
        defer { rig.pair.backend.stop() }
        try rig.set(.delay) { $0.milliseconds = 100 }
        do {
            defer { rig.frontend.close() }
            var queue = try rig.frontend.takeQueue(0)
            #expect(try timeOfRead(&queue) > 80)
        }
        var options = BlockFrontendOptions()
        options.takesFaults = true
        let next = try rig.pair.connect(options)
        var queue = try next.takeQueue(0)
        #expect(try timeOfRead(&queue) > 80)
        // Long beyond all patience: closing does not wait for it.
        try rig.set(.delay) { $0.milliseconds = 600_000 }
        _ = try queue.submit(.write, byteCount: 4096, tag: 1)
        queue.kick()
        sleepMilliseconds(50)
        let begun = monotonicMilliseconds()
        next.close()
        #expect(monotonicMilliseconds() - begun < 5000)
    }

    @Test("what is held begins when its fault is undone") func released() throws {
        try withRig { rig, queue in
            try rig.set(.delay) { $0.milliseconds = 600_000 }
            for tag in 0..<3 { #expect(try queue.submit(.read, byteCount: 4096, tag: UInt64(tag))) }
            queue.kick()
            #expect(eventually { (try? rig.struck()) == [3] })
            try rig.clear()
            let begun = monotonicMilliseconds()
            #expect(try queue.waitForAll().count == 3)
            #expect(monotonicMilliseconds() - begun < 2000)
            try rig.expectHealth(&queue)
        }
    }

    @Test("a backend that takes none says so, and none is set") func refused() throws {
        let pair = try BlockPair()
        defer { pair.backend.stop() }
        let frontend = try pair.connect()
        defer { frontend.close() }
        #expect(frontend.faults == nil)
        let devices = pair.backend.service.controlled { _ in DeviceCounters(read: { [] }, carryOver: { _ in }) }
        let answer = ControlRequest.setFault(device: "vbd-1/51712", FaultPlan(.delay)).answer(devices)
        #expect(
            answer
                == .refused(
                    "vbd-1/51712: fault delay: faults are set on the loopback host only: a guest of a real Xen has data to lose"))
    }
}
