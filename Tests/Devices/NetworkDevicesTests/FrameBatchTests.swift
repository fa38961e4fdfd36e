@testable import DMA
import Foundation
@testable import LinuxSystem
@testable import NetworkDevices
import Packets
import SharedMemory
import Testing

/// Frames that wait in a queue and are written together: in order, none twice, none lost without being told of.
struct FrameBatchTests {
    /// A queue, the other end's, and memory that both see.
    private final class Wire {
        let bus = MemoryBus()
        let region: SharedRegion
        let base: BusAddress
        let near: any NetworkDeviceQueue
        let far: any NetworkDeviceQueue
        private let devices: (SocketNetwork, SocketNetwork)

        init(bufferBytes: Int = 4 << 20) throws {
            devices = try SocketNetwork.pair("batch", bufferBytes: bufferBytes)
            region = try SharedRegion(anonymous: 64 * SharedRegion.pageSize)
            base = bus.attach(region)
            near = try devices.0.openQueue(bus: bus)
            far = try devices.1.openQueue(bus: bus)
        }

        /// Gives a frame whose bytes tell its number.
        func give(_ number: Int, byteCount: Int = 100) throws -> FrameSent {
            let offset = number % 32 * SharedRegion.pageSize
            region.fill(offset, count: min(byteCount, SharedRegion.pageSize), with: UInt8(number))
            let place = try #require(base.advanced(by: UInt64(offset)))
            return near.send(FrameOffload(), segments: [BusSegment(address: place, byteCount: UInt32(byteCount))].span)
        }

        func flush() -> [FrameSent] {
            var ended: [FrameSent] = []
            near.flush(&ended)
            return ended
        }

        /// The number of the next frame at the other end.
        func next() throws -> Int? {
            let offset = 32 * SharedRegion.pageSize
            let place = try #require(base.advanced(by: UInt64(offset)))
            let segment = BusSegment(address: place, byteCount: UInt32(31 * SharedRegion.pageSize))
            guard case .frame = far.receive(into: [segment].span) else { return nil }
            let byte: UInt8 = region.load(offset)
            return Int(byte)
        }
    }

    @Test func nothingMovesBeforeTheFlushAndAllOfItThen() throws {
        let wire = try Wire(bufferBytes: 16 << 10)
        for number in 0..<FrameBatch.mostFrames { #expect(try wire.give(number, byteCount: 2000) == .waiting) }
        #expect(try wire.give(FrameBatch.mostFrames - 1) == .full)
        #expect(try wire.next() == nil)
        var sent: [FrameSent] = []
        var got: [Int] = []
        // The socket's buffer holds a few of them.
        sent = wire.flush()
        while let number = try wire.next() { got.append(number) }
        let count = sent.count { $0 == .sent }
        #expect(sent.count == FrameBatch.mostFrames && count > 0 && count < sent.count)
        #expect(sent[count...].allSatisfy { $0 == .full })
        #expect(got == Array(0..<count))
        #expect(wire.flush().isEmpty)
        #expect(wire.near.statistics.sentFrames == UInt64(count) && wire.near.statistics.errors == 0)
    }

    /// What there was no room for is given again, and arrives behind what was sent, in order.
    @Test func whatFoundNoRoomIsGivenAgain() throws {
        let wire = try Wire(bufferBytes: 16 << 10)
        var pending = Array(0..<200)
        var got: [Int] = []
        var rounds = 0
        while !pending.isEmpty {
            let part = pending.prefix(FrameBatch.mostFrames)
            for number in part { #expect(try wire.give(number, byteCount: 2000) == .waiting) }
            let ended = wire.flush()
            #expect(ended.count == part.count)
            rounds += 1
            pending.removeFirst(ended.count { $0 == .sent })
            while let number = try wire.next() { got.append(number) }
        }
        #expect(got == Array(0..<200))
        #expect(rounds > 200 / FrameBatch.mostFrames + 1, "there was room for all: nothing was tested")
    }

    /// One that is refused takes none of its neighbours with it.
    @Test func aFrameThatIsRefusedIsLostAlone() throws {
        let wire = try Wire(bufferBytes: 16 << 10)
        for number in 0..<5 {
            // Larger than the socket's buffer.
            #expect(try wire.give(number, byteCount: number == 2 ? 30 * SharedRegion.pageSize : 60) == .waiting)
        }
        #expect(wire.flush() == [.sent, .sent, .failed(Errno(EMSGSIZE)), .sent, .sent])
        var got: [Int] = []
        while let number = try wire.next() { got.append(number) }
        #expect(got == [0, 1, 3, 4])
        #expect(wire.near.statistics.errors == 1 && wire.near.statistics.sentFrames == 4)
    }

    @Test func anAddressThatIsNobodysIsRefusedAtOnce() throws {
        let wire = try Wire()
        #expect(try wire.give(0) == .waiting)
        let nowhere = BusSegment(address: BusAddress(rawValue: 4096), byteCount: 60)
        #expect(wire.near.send(FrameOffload(), segments: [nowhere].span) == .failed(.badAddress))
        #expect(try wire.give(1) == .waiting)
        #expect(wire.flush() == [.sent, .sent])
        #expect(try [wire.next(), wire.next(), wire.next()] == [0, 1, nil])
    }

    /// A queue's ring belongs to the thread that flushes; another one may take over.
    @Test func anotherThreadMayGoOn() throws {
        let wire = try Wire()
        nonisolated(unsafe) let shared = wire
        for round in 0..<3 {
            let done = DispatchSemaphore(value: 0)
            nonisolated(unsafe) var ended: [FrameSent] = []
            Thread.detachNewThread {
                for number in 0..<4 { _ = try? shared.give(4 * round + number) }
                ended = shared.flush()
                done.signal()
            }
            done.wait()
            #expect(ended == [.sent, .sent, .sent, .sent])
        }
        var got: [Int] = []
        while let number = try wire.next() { got.append(number) }
        #expect(got == Array(0..<12))
    }

    /// Queues that come and go leave no descriptor behind.
    @Test func queuesGiveTheirRingBack() throws {
        let (device, _) = try SocketNetwork.pair("batch")
        let bus = MemoryBus()
        func rings() throws -> Int {
            try FileManager.default.contentsOfDirectory(atPath: "/proc/self/fd").count { isRing($0) }
        }
        func isRing(_ name: String) -> Bool {
            (try? FileManager.default.destinationOfSymbolicLink(atPath: "/proc/self/fd/\(name)"))?.contains("io_uring") == true
        }
        let before = try rings()
        for _ in 0..<10 {
            let queue = try device.openQueue(bus: bus)
            var ended: [FrameSent] = []
            queue.flush(&ended)
        }
        // Other suites' rings may come and go meanwhile; ten that stay would show.
        #expect(try rings() < before + 10)
    }
}
