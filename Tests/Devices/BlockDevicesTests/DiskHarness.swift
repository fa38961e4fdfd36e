// A disk, a queue on a reactor, and shared memory on a bus: what the tests drive. Every wait has a time limit.

@testable import BlockDevices
@testable import DMA
import Foundation
import Glibc
@testable import LinuxSystem
import Reactor
import SharedMemory
import TestSupport

/// Owns the queue; collects results.
final class DiskHarness: BlockQueueOwner, @unchecked Sendable {
    let disk: any BlockDevice
    let reactor: Reactor
    let region: SharedRegion
    let bus = MemoryBus()
    let base: BusAddress
    var queue: (any BlockDeviceQueue)!
    private let condition = NSCondition()
    private var results: [UInt32: DeviceResult] = [:]
    private var nextTag: UInt32 = 1

    init(_ disk: any BlockDevice, pages: Int = 64, depth: Int = 32) throws {
        self.disk = disk
        reactor = try Reactor(name: "test", time: .system)
        region = try SharedRegion(anonymous: pages * 4096)
        base = bus.attach(region)
        try reactor.start()
        let failure: Errno? = reactor.run {
            do throws(Errno) {
                self.queue = try disk.openQueue(on: self.reactor, bus: self.bus, depth: depth, owner: self)
                return nil
            } catch { return error }
        }
        if let failure {
            reactor.stop()
            throw failure
        }
    }

    /// Ends the queue and the thread; nothing of the harness is left.
    func close() {
        reactor.run {
            self.queue.close()
            self.queue = nil
            self.whenCompleted = { _ in }
        }
        reactor.stop()
    }

    /// Told of each completion, on the reactor's thread; set there.
    var whenCompleted: (UInt32) -> Void = { _ in }

    func deviceCompleted(tag: UInt32, result: DeviceResult) {
        whenCompleted(tag)
        deliver(tag, result)
    }

    private func deliver(_ tag: UInt32, _ result: DeviceResult) {
        condition.withLock {
            precondition(results[tag] == nil, "tag \(tag) completed twice")
            results[tag] = result
            condition.broadcast()
        }
    }

    /// Begins an operation; its tag.
    func begin(_ operation: DeviceOperation, _ segments: [BusSegment]) -> UInt32 {
        nextTag += 1
        let tag = nextTag
        reactor.run {
            if let result = self.queue.submit(operation, tag: tag, segments: segments.span) { self.deliver(tag, result) }
        }
        return tag
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

    func perform(_ operation: DeviceOperation, _ segments: [BusSegment] = []) throws -> DeviceResult {
        try wait(begin(operation, segments))
    }

    /// A segment of the region by byte offset.
    func segment(_ offset: Int, _ count: Int) -> BusSegment {
        BusSegment(address: base.advanced(by: UInt64(offset))!, byteCount: UInt32(count))
    }

    var statistics: DeviceStatistics { reactor.run { self.queue.statistics } }

    // Whole transfers through the start of the region.

    func write(_ bytes: [UInt8], at offset: UInt64) throws -> DeviceResult {
        region.write(bytes, at: 0)
        return try perform(.write(offset: offset), [segment(0, bytes.count)])
    }

    func read(_ count: Int, at offset: UInt64) throws -> (DeviceResult, [UInt8]) {
        region.fill(0, count: count, with: 0xEE)
        let result = try perform(.read(offset: offset), [segment(0, count)])
        return (result, region.bytes(at: 0, count: count))
    }
}
