// A namespace of a model controller, a queue of it on a reactor, and memory on its bus: what the tests drive.

import BlockDevices
import DMA
import Foundation
import LinuxSystem
@testable import NVMe
import NVMeModel
import Reactor
import SharedMemory
import Synchronization
import TestSupport

/// Owns a queue; collects results. Every wait has a time limit.
final class NVMeHarness: BlockQueueOwner, @unchecked Sendable {
    let model: ModelController
    let disk: NVMeDisk
    let reactor: Reactor
    let region: SharedRegion
    let bus = MemoryBus()
    private(set) var base = BusAddress(rawValue: 0)
    private(set) var queue: (any BlockDeviceQueue)!
    let log = Mutex<[String]>([])
    private let condition = NSCondition()
    private var results: [UInt32: DeviceResult] = [:]
    private var nextTag: UInt32 = 1

    convenience init(
        _ settings: ModelSettings = ModelSettings(), namespace: UInt32? = nil, limits: NVMeLimits = NVMeLimits(), pages: Int = 1100
    ) throws {
        try self.init(ModelController(settings), namespace: namespace, limits: limits, pages: pages)
    }

    /// - Parameters:
    ///   - port: the way to the model, where it is not the model itself.
    ///   - region: memory that there is already.
    init(
        _ model: ModelController, port: (any NVMePort)? = nil, time: any TimeSource = .system, region known: SharedRegion? = nil,
        namespace: UInt32? = nil, limits: NVMeLimits = NVMeLimits(), pages: Int = 1100
    ) throws {
        self.model = model
        let lines = LineCollector()
        let controller = try NVMeController(port ?? model, time: time) { lines.add($0) }
        disk = try NVMeDisk(controller, namespace: namespace, name: "nvme:model", limits: limits)
        reactor = try Reactor(name: "test", time: .system)
        region = try known ?? SharedRegion(anonymous: pages * 4096)
        self.lines = lines
        try reactor.start()
        let failure: Errno? = reactor.run {
            do throws(Errno) {
                self.queue = try self.disk.openQueue(on: self.reactor, bus: self.bus, depth: 256, owner: self)
                self.base = self.bus.attach(self.region)
                return nil
            } catch { return error }
        }
        if let failure {
            reactor.stop()
            throw failure
        }
    }
    let lines: LineCollector

    /// Ends the queue and the thread.
    func close() {
        reactor.run {
            self.bus.detach(self.region)
            self.queue.close()
            self.queue = nil
        }
        reactor.stop()
    }

    func deviceCompleted(tag: UInt32, result: DeviceResult) {
        // A dead process answers nobody.
        if (disk.controller.port as? ModelLife)?.isDead == true { return }
        condition.withLock {
            precondition(results[tag] == nil, "tag \(tag) completed twice")
            results[tag] = result
            condition.broadcast()
        }
    }

    /// Begins an operation; its tag.
    @discardableResult
    func begin(_ operation: DeviceOperation, _ segments: [BusSegment] = []) -> UInt32 {
        nextTag += 1
        let tag = nextTag
        reactor.run {
            if let result = self.queue.submit(operation, tag: tag, segments: segments.span) {
                self.deviceCompleted(tag: tag, result: result)
            }
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

    /// The result, if it is there and its process had not been killed by then.
    func answered(_ tag: UInt32) -> DeviceResult? { condition.withLock { results.removeValue(forKey: tag) } }

    /// The process was killed: nothing of it is waited for.
    func abandon() {
        reactor.run { self.disk.controller.giveUp("killed") }
        close()
    }

    /// The next requests are a predecessor's.
    func expectRepeats(_ count: Int) { reactor.run { self.queue.expectRepeats(count) } }

    func hasResult(_ tag: UInt32) -> Bool { condition.withLock { results[tag] != nil } }

    func perform(_ operation: DeviceOperation, _ segments: [BusSegment] = []) throws -> DeviceResult {
        try wait(begin(operation, segments))
    }

    /// A segment of the region by byte offset.
    func segment(_ offset: Int, _ count: Int) -> BusSegment {
        BusSegment(address: base.advanced(by: UInt64(offset))!, byteCount: UInt32(count))
    }

    var statistics: DeviceStatistics { reactor.run { self.queue.statistics } }
    var inFlight: Int { reactor.run { self.queue.inFlight } }
}
