// An image of a library that is none, and a queue on it.

import BlockDevices
import CFakeRBD
import DMA
import Foundation
@testable import LinuxSystem
@testable import RBD
import Reactor
import SharedMemory
import Synchronization
import TestSupport

/// A disk's lines.
final class Lines: Sendable {
    private let all = Mutex<[String]>([])
    var lines: [String] { all.withLock { $0 } }
    func add(_ line: String) { all.withLock { $0.append(line) } }
}

/// Opens `rbd:p/img`, or another target, as a backend does.
func openImage(
    _ target: String = "rbd:p/img", readOnly: Bool = false, shared: Bool = false, own: RBDOptions = RBDOptions(),
    log: Lines = Lines()
) throws(DeviceError) -> any BlockDevice {
    var options = BlockDeviceOptions(readOnly: readOnly)
    if shared { options.sharing = .shared }
    options.log = { log.add($0) }
    options.openImage = { target, options, _ throws(DeviceError) in try RBDImages.openDisk(target, options, own) }
    return try openBlockDevice(target: target, options: options, time: .system)
}

/// Owns the queue; collects results.
final class RBDHarness: BlockQueueOwner, @unchecked Sendable {
    let reactor: Reactor
    let region: SharedRegion
    let bus = MemoryBus()
    let base: BusAddress
    var queue: (any BlockDeviceQueue)?
    private let results = Mutex<[UInt32: DeviceResult]>([:])
    private var nextTag: UInt32 = 0

    init(_ disk: any BlockDevice, pages: Int = 64) throws {
        reactor = try Reactor(name: "test", time: .system)
        region = try SharedRegion(anonymous: pages * 4096)
        base = bus.attach(region)
        try reactor.start()
        reactor.run { self.queue = try? disk.openQueue(on: self.reactor, bus: self.bus, depth: 32, owner: self) }
    }

    func close() {
        reactor.run {
            self.queue?.close()
            self.queue = nil
        }
        reactor.stop()
    }

    func deviceCompleted(tag: UInt32, result: DeviceResult) { results.withLock { $0[tag] = result } }

    func segment(_ offset: Int, _ count: Int) -> BusSegment {
        BusSegment(address: base.advanced(by: UInt64(offset))!, byteCount: UInt32(count))
    }

    func begin(_ operation: DeviceOperation, _ segments: [BusSegment] = []) -> UInt32 {
        nextTag += 1
        let tag = nextTag
        reactor.run {
            if let result = self.queue?.submit(operation, tag: tag, segments: segments.span) {
                self.deviceCompleted(tag: tag, result: result)
            }
        }
        return tag
    }

    func result(_ tag: UInt32) -> DeviceResult? { results.withLock { $0[tag] } }

    func wait(_ tag: UInt32) throws -> DeviceResult? {
        guard eventually(10_000, { result(tag) != nil }) else { throw TimedOut("no result") }
        return result(tag)
    }

    func perform(_ operation: DeviceOperation, _ segments: [BusSegment] = []) throws -> DeviceResult? {
        try wait(begin(operation, segments))
    }
}

/// Whether something comes to be so.
func soon(_ isSo: () -> Bool) -> Bool { eventually(15_000, isSo) }
