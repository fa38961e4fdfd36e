// bench-devices TARGET [KIND] [block bytes] [depth] [seconds] [direct] [segments]: random I/O on one reactor thread, no
// ring and no peer. A KIND is read, write, durable (a write), zeroes, discard or flush. Prints operations a second, the
// mean, the processor time of each, of this process and of the whole machine, and what the reactor did.

import BlockDevices
import DMA
import Glibc
import LinuxSystem
import NVMe
import Reactor
import SharedMemory

/// What is done.
enum Kind: String {
    case read, write, durable, zeroes, discard, flush

    func operation(_ offset: UInt64, _ byteCount: UInt64) -> DeviceOperation {
        switch self {
        case .read: .read(offset: offset)
        case .write: .write(offset: offset)
        case .durable: .write(offset: offset, isDurable: true)
        case .zeroes: .writeZeroes(offset: offset, byteCount: byteCount, mayUnmap: false)
        case .discard: .discard(offset: offset, byteCount: byteCount, secure: false)
        case .flush: .flush
        }
    }
    var hasData: Bool { [.read, .write, .durable].contains(self) }
}

final class Load: BlockQueueOwner {
    let blockSize: UInt64
    let blocks: UInt64
    let kind: Kind
    var base = BusAddress(rawValue: 0)
    let segments: Int
    var queue: (any BlockDeviceQueue)!
    var finished = 0
    var isOver = false
    var state: UInt64 = 0x9E37_79B9_7F4A_7C15

    init(blockSize: UInt64, byteCount: UInt64, kind: Kind, segments: Int) {
        self.blockSize = blockSize
        blocks = byteCount / blockSize
        self.kind = kind
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
            let operation = kind.operation(offset, blockSize)
            if !kind.hasData {
                result = queue.submit(operation, tag: tag, segments: Span())
            } else if segments == 1 {
                let segment = BusSegment(address: start, byteCount: UInt32(blockSize))
                result = queue.submit(operation, tag: tag, segments: CollectionOfOne(segment).span)
            } else {
                // Every other page, so that nothing merges.
                let piece = blockSize / UInt64(segments)
                let list = (0..<segments).map { index in
                    guard let place = start.advanced(by: UInt64(index) * piece * 2) else { fatalError("beyond the last address") }
                    return BusSegment(address: place, byteCount: UInt32(piece))
                }
                result = queue.submit(operation, tag: tag, segments: list.span)
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

/// Nanoseconds of processor time: of this process, and of the whole machine, interrupts and all.
struct ProcessorTime {
    var process: Double
    var machine: Double

    static var now: Self {
        var usage = rusage()
        getrusage(__rusage_who_t(RUSAGE_SELF.rawValue), &usage)
        func nanoseconds(_ time: timeval) -> Double { Double(time.tv_sec) * 1e9 + Double(time.tv_usec) * 1e3 }
        return Self(process: nanoseconds(usage.ru_utime) + nanoseconds(usage.ru_stime), machine: busy)
    }

    /// All ticks of `/proc/stat` but those of nothing to do: idle, and waiting for I/O.
    private static var busy: Double {
        guard let file = fopen("/proc/stat", "r") else { return 0 }
        defer { fclose(file) }
        var line = [CChar](repeating: 0, count: 512)
        guard fgets(&line, Int32(line.count), file) != nil else { return 0 }
        let text = String(decoding: line.prefix { $0 != 0 }.map(UInt8.init(bitPattern:)), as: UTF8.self)
        let ticks = text.split(separator: " ").dropFirst().compactMap { Double($0.filter(\.isNumber)) }
        guard ticks.count >= 8 else { return 0 }
        return (ticks[0] + ticks[1] + ticks[2] + ticks[5] + ticks[6] + ticks[7]) * 1e9 / Double(sysconf(Int32(_SC_CLK_TCK)))
    }
}

@main
struct BenchDevices {
    static func main() throws {
        let arguments = CommandLine.arguments
        func argument(_ index: Int, _ otherwise: String) -> String { arguments.count > index ? arguments[index] : otherwise }
        guard let blockSize = UInt64(argument(3, "4096")), let depth = Int(argument(4, "32")),
            let seconds = Double(argument(5, "3")),
            let segments = Int(argument(7, "1")), let kind = Kind(rawValue: argument(2, "read"))
        else { fatalError("usage: bench-devices TARGET [KIND] [block bytes] [depth] [seconds] [direct] [segments]") }
        let direct: DirectIO = argument(6, "") == "direct" ? .required : .never
        var options = BlockDeviceOptions(direct: direct)
        options.log = { line in
            let bytes = Array("\(line)\n".utf8)
            _ = write(STDERR_FILENO, bytes, bytes.count)
        }
        options.openController = { target, options, time throws(DeviceError) in
            try NVMeControllers.openDisk(target, options, time, keeper: nil)
        }
        let disk = try openBlockDevice(target: argument(1, "null:1G"), options: options, time: .system)
        let reactor = try Reactor(name: "bench", time: .system)
        let bus = MemoryBus()
        let region = try SharedRegion(anonymous: Int(blockSize) * depth * 2)
        let load = Load(
            blockSize: blockSize, byteCount: disk.geometry.byteCount, kind: kind, segments: segments)
        load.queue = try disk.openQueue(on: reactor, bus: bus, depth: depth, owner: load)
        // Behind the queue: a controller's own addresses are given to what comes after it.
        load.base = bus.attach(region)
        let (start, before) = (monotonic(), ProcessorTime.now)
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
        let (done, after) = (load.finished, ProcessorTime.now)
        load.isOver = true
        try reactor.runLoop(until: { load.queue.inFlight == 0 })
        load.queue.close()
        let rate = Double(done) / elapsed
        print(
            "\(Int(rate)) operations/s, \(Int(1e9 / rate)) ns each; "
                + "\(Int((after.process - before.process) / Double(done))) ns of processor time here and "
                + "\(Int((after.machine - before.machine) / Double(done))) of the machine's; \(reactor.statistics.enters) enters, "
                + "\(reactor.statistics.submitted) submitted, \(reactor.statistics.sleeps) sleeps; \(load.queue.statistics)")
    }
}
