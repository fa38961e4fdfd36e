@testable import BlockDevices
@testable import DMA
import LinuxSystem
import Reactor
import Testing
import TestSupport

@testable import SharedMemory

@Suite struct VectorListTests {
    /// Every way in which a transfer of a few vectors can come in two short pieces.
    @Test func whatIsLeftAfterAnyTwoShortTransfers() throws {
        let bus = MemoryBus()
        let region = try SharedRegion(anonymous: 16 * 4096)
        let base = bus.attach(region)
        let sizes = [3, 1, 4, 2]
        let segments = sizes.enumerated().map {
            BusSegment(address: base.advanced(by: UInt64($0.offset) * 4096)!, byteCount: UInt32($0.element))
        }
        let order = sizes.enumerated().flatMap { entry in (0..<entry.element).map { entry.offset * 4096 + $0 } }
        for first in 0...10 {
            for second in 0...(10 - first) {
                let list = VectorList(capacity: 1)
                let isLoaded = list.load(segments.span, bus, .fromDevice)
                #expect(isLoaded)
                #expect(list.total == 10)
                list.advance(UInt64(first))
                list.advance(UInt64(second))
                var rest: [Int] = []
                for index in list.first..<list.count {
                    let vector = unsafe list.storage[index]
                    let start = unsafe vector.iov_base! - region.unsafeBase
                    rest += unsafe (0..<vector.iov_len).map { start + $0 }
                }
                #expect(rest == Array(order.dropFirst(first + second)))
                #expect(list.remaining == UInt64(10 - first - second))
            }
        }
    }

    @Test func neighboursMerge() throws {
        let bus = MemoryBus()
        let region = try SharedRegion(anonymous: 16 * 4096)
        let base = bus.attach(region)
        let list = VectorList()
        let segments = [0, 1, 2, 4, 5, 3].map { BusSegment(address: base.advanced(by: UInt64($0) * 4096)!, byteCount: 4096) }
        let isLoaded = list.load(segments.span, bus, .toDevice)
        #expect(isLoaded)
        #expect(list.count == 3 && list.total == 6 * 4096)
    }

    @Test func shortAnswersOfTheKernelAreContinued() throws {
        final class Nobody: BlockQueueOwner { func deviceCompleted(tag: UInt32, result: DeviceResult) {} }
        let directory = try TemporaryDirectory()
        let disk = try FileDisk(path: try directory.file(byteCount: 1 << 20))
        let bus = MemoryBus()
        let region = try SharedRegion(anonymous: 4096)
        let base = bus.attach(region)
        let queue = FileQueue(disk: disk, reactor: try Reactor(name: "short", time: .system), bus: bus, depth: 1, owner: Nobody())
        defer { queue.close() }
        let request = FileRequest()
        request.operation = .write(offset: 0)
        let isLoaded = request.vectors.load([BusSegment(address: base, byteCount: 512)].span, bus, .toDevice)
        #expect(isLoaded)
        for step in 1..<512 {
            guard case .again = queue.advance(request, 1) else { return #expect(Bool(false), "ended after \(step) bytes") }
            #expect(request.moved == UInt64(step))
        }
        guard case .ended(.done) = queue.advance(request, 1) else { return #expect(Bool(false), "did not end") }
        #expect(queue.statistics.continued == 511)
    }
}
