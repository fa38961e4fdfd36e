// bench-devices TARGET [read|write] [block bytes] [depth] [seconds] [direct] [segments]: random I/O on one reactor
// thread, no ring and no peer. Prints operations a second, the mean, and what the reactor did.

import BlockDevices
import DMA
import Glibc
import LinuxSystem
import Reactor
import SharedMemory

final class Load: BlockQueueOwner {
    let blockSize: UInt64
    let blocks: UInt64
    let isWrite: Bool
    let base: BusAddress
    let segments: Int
    var queue: (any BlockDeviceQueue)!
    var finished = 0
    var isOver = false
    var state: UInt64 = 0x9E37_79B9_7F4A_7C15

    init(blockSize: UInt64, byteCount: UInt64, isWrite: Bool, base: BusAddress, segments: Int) {
        self.blockSize = blockSize
        blocks = byteCount / blockSize
        self.isWrite = isWrite
        self.base = base
        self.segments = segments
    }

    func deviceCompleted(tag: UInt32, result: DeviceResult) {
        guard result == .done else { fatalError("\(result)") }
        finished += 1
        if !isOver { submit(tag) }
    }

    func submit(_ tag: UInt32) {
        while true {
            state ^= state << 13
            state ^= state >> 7
            state ^= state << 17
            let offset = state % blocks * blockSize
            guard let start = base.advanced(by: UInt64(tag) * blockSize * 2) else { fatalError("beyond the last address") }
            let result: DeviceResult?
            if segments == 1 {
                let segment = BusSegment(address: start, byteCount: UInt32(blockSize))
                result = queue.submit(
                    isWrite ? .write(offset: offset) : .read(offset: offset), tag: tag, segments: CollectionOfOne(segment).span)
            } else {
                // Every other page, so that nothing merges.
                let piece = blockSize / UInt64(segments)
                let list = (0..<segments).map { index in
                    guard let place = start.advanced(by: UInt64(index) * piece * 2) else { fatalError("beyond the last address") }
                    return BusSegment(address: place, byteCount: UInt32(piece))
                }
                result = queue.submit(isWrite ? .write(offset: offset) : .read(offset: offset), tag: tag, segments: list.span)
            }
            guard let result else { return }
            guard result == .done else { fatalError("\(result)") }
            finished += 1
            if isOver || finished & 1023 == 0 && monotonic() > limit { return }
        }
    }

    var limit: Double = 0
}

func monotonic() -> Double {
    var time = timespec()
    clock_gettime(CLOCK_MONOTONIC, &time)
    return Double(time.tv_sec) + Double(time.tv_nsec) / 1e9
}

@main
struct BenchDevices {
    static func main() throws {
        let arguments = CommandLine.arguments
        func argument(_ index: Int, _ otherwise: String) -> String { arguments.count > index ? arguments[index] : otherwise }
        guard let blockSize = UInt64(argument(3, "4096")), let depth = Int(argument(4, "32")),
            let seconds = Double(argument(5, "3")),
            let segments = Int(argument(7, "1"))
        else { fatalError("usage: bench-devices TARGET [read|write] [block bytes] [depth] [seconds] [direct] [segments]") }
        let direct: DirectIO = argument(6, "") == "direct" ? .required : .never
        let disk = try openBlockDevice(target: argument(1, "null:1G"), options: BlockDeviceOptions(direct: direct), time: .system)
        let reactor = try Reactor(name: "bench", time: .system)
        let bus = MemoryBus()
        let region = try SharedRegion(anonymous: Int(blockSize) * depth * 2)
        let load = Load(
            blockSize: blockSize, byteCount: disk.geometry.byteCount, isWrite: argument(2, "read") == "write",
            base: bus.attach(region), segments: segments)
        load.queue = try disk.openQueue(on: reactor, bus: bus, depth: depth, owner: load)
        let start = monotonic()
        let limit = start + seconds
        load.limit = limit
        for tag in 0..<depth { load.submit(UInt32(tag)) }
        if load.queue.inFlight == 0 { load.isOver = true }
        var turns = 0
        try reactor.runLoop(until: {
            turns += 1
            return load.isOver || turns & 15 == 0 && monotonic() >= limit
        })
        let elapsed = monotonic() - start
        let done = load.finished
        load.isOver = true
        try reactor.runLoop(until: { load.queue.inFlight == 0 })
        load.queue.close()
        let rate = Double(done) / elapsed
        print(
            "\(Int(rate)) operations/s, \(Int(1e9 / rate)) ns each; \(reactor.statistics.enters) enters, "
                + "\(reactor.statistics.submitted) submitted, \(reactor.statistics.sleeps) sleeps; \(load.queue.statistics)")
    }
}
