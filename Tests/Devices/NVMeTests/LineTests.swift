// One interrupt line for all pairs of queues, each on a thread of its own.

import BlockDevices
import DMA
import Foundation
import LinuxSystem
@testable import NVMe
import NVMeModel
import Reactor
import SharedMemory
import Testing
import TestSupport

/// A queue on a reactor of its own.
private final class LineUser: BlockQueueOwner, @unchecked Sendable {
    let reactor: Reactor
    let region: SharedRegion
    let bus = MemoryBus()
    private var base = BusAddress(rawValue: 0)
    private var queue: (any BlockDeviceQueue)?
    private let condition = NSCondition()
    private var results: [UInt32: DeviceResult] = [:]
    private(set) var failure: Errno?

    init(_ disk: NVMeDisk) throws {
        reactor = try Reactor(name: "line", time: .system)
        region = try SharedRegion(anonymous: 16 * 4096)
        try reactor.start()
        failure = reactor.run {
            do throws(Errno) {
                self.queue = try disk.openQueue(on: self.reactor, bus: self.bus, depth: 64, owner: self)
                self.base = self.bus.attach(self.region)
                return nil
            } catch { return error }
        }
    }

    func deviceCompleted(tag: UInt32, result: DeviceResult) {
        condition.withLock {
            results[tag] = result
            condition.broadcast()
        }
    }

    func begin(_ operation: DeviceOperation, _ count: Int, tag: UInt32) {
        reactor.run {
            let segment = BusSegment(address: self.base, byteCount: UInt32(count))
            if let result = self.queue?.submit(operation, tag: tag, segments: [segment].span) {
                self.deviceCompleted(tag: tag, result: result)
            }
        }
    }

    func wait(_ tag: UInt32, seconds: Double = 20) throws -> DeviceResult {
        let limit = Date().addingTimeInterval(seconds)
        condition.lock()
        defer { condition.unlock() }
        while true {
            if let result = results.removeValue(forKey: tag) { return result }
            if !condition.wait(until: limit) { throw TimedOut("no result") }
        }
    }

    func close() {
        reactor.run {
            self.bus.detach(self.region)
            self.queue?.close()
            self.queue = nil
        }
        reactor.stop()
    }
}

@Suite struct NVMeLineTests {
    private static func model() -> ModelController {
        var settings = ModelSettings()
        settings.isLine = true
        settings.isScattered = true
        return ModelController(settings)
    }

    private func disk(_ model: ModelController) throws -> NVMeDisk {
        try NVMeDisk(NVMeController(model, time: .system) { _ in }, namespace: nil, name: "nvme:model")
    }

    /// The line is armed when all heads have been written, whosever thread is the last: what is armed earlier is raised
    /// at once by what has been seen already.
    @Test func armedBehindTheLastHead() throws {
        let model = Self.model()
        let disk = try disk(model)
        #expect(disk.queueLimit == 16)
        let users = try (0..<4).map { _ in try LineUser(disk) }
        for round in 0..<30 as Range<UInt32> {
            // Asleep, and the line armed: nobody looks by himself.
            model.whenCommand { $0.isIO ? .hold : .perform }
            for user in users { user.begin(.read(offset: 0), 8192, tag: round) }
            #expect(eventually { model.held.count == users.count })
            sleepMilliseconds(round < 3 ? 30 : 2)
            let before = model.lineCounts
            model.finish()
            for user in users { #expect(try user.wait(round) == .done) }
            #expect(eventually { model.isLineArmed })
            let after = model.lineCounts
            #expect(after.told - before.told <= 1 && after.early == before.early, "\(before) \(after)")
        }
        #expect(model.violations == [])
        for user in users { user.close() }
        #expect(model.memoryModel.count == 1)
    }

    /// The one that waits for the line goes, and others after it: another waits.
    @Test func anotherWaits() throws {
        let model = Self.model()
        let disk = try disk(model)
        var users = try (0..<3).map { _ in try LineUser(disk) }
        var tag: UInt32 = 0
        while !users.isEmpty {
            for user in users {
                for _ in 0..<5 {
                    tag += 1
                    let begin = Date()
                    user.begin(.write(offset: 0), 4096, tag: tag)
                    #expect(try user.wait(tag) == .done)
                    // By the interrupt, not by the beat that looks for lost ones.
                    #expect(Date().timeIntervalSince(begin) < 0.8)
                }
            }
            users.removeFirst().close()
        }
        // And who comes anew when nobody was there.
        let last = try LineUser(disk)
        last.begin(.read(offset: 0), 4096, tag: 1)
        #expect(try last.wait(1) == .done)
        last.close()
        #expect(model.violations == [])
    }

    /// Many at once on every queue, and all of them end.
    @Test func load() throws {
        let model = Self.model()
        let disk = try disk(model)
        let users = try (0..<3).map { _ in try LineUser(disk) }
        for round in 0..<20 as Range<UInt32> {
            for user in users {
                for index in 0..<50 as Range<UInt32> { user.begin(.read(offset: 0), 4096, tag: round * 50 + index) }
            }
            for user in users { for index in 0..<50 as Range<UInt32> { #expect(try user.wait(round * 50 + index) == .done) } }
        }
        #expect(model.violations == [])
        for user in users { user.close() }
    }
}
