// What a driver sends, beside what a device should get.

import DMA
import FuzzSupport
import LinuxSystem
import NetworkDevices
import Packets
import SharedMemory
import VirtioMemory
import VirtioModel
import VirtioRig
import VirtioRing
import VirtioWire

@testable import VirtioNetwork

/// A device that takes frames as it is told to, and writes them down.
final class MoodyDevice: NetworkDeviceQueue {
    let bus: MemoryBus
    let statistics = NetworkDeviceStatistics()
    let descriptor: Descriptor? = nil
    /// 0 takes, 1 lets wait, 2 is full, 3 refuses.
    var mood: UInt8 = 0
    var taken: [(bytes: [UInt8], offload: FrameOffload)] = []
    private var waiting: [(bytes: [UInt8], offload: FrameOffload)] = []

    init(_ bus: MemoryBus) { self.bus = bus }

    func send(_ offload: FrameOffload, segments: Span<BusSegment>) -> FrameSent {
        if mood == 2 { return .full }
        var bytes: [UInt8] = []
        for index in segments.indices {
            let scratch = made { try SharedRegion(anonymous: SharedRegion.wholePages(Int(segments[index].byteCount))) }
            require(bus.read(segments[index], into: scratch, at: 0), "a segment that faults")
            bytes += scratch.bytes(at: 0, count: Int(segments[index].byteCount))
        }
        if mood == 1 {
            guard waiting.count < 3 else { return .full }
            waiting.append((bytes, offload))
            return .waiting
        }
        taken.append((bytes, offload))
        return mood == 3 ? .failed(.ioError) : .sent
    }

    func flush(_ ended: inout [FrameSent]) {
        for frame in waiting {
            taken.append(frame)
            ended.append(.sent)
        }
        waiting = []
    }

    func receive(into segments: Span<BusSegment>) -> FrameReceived { .nothing }
    func close() {}
}

/// The side under test and the obvious one.
struct Sending<Ring: DeviceRing & ~Copyable>: ~Copyable {
    private var driver: Driver
    private var side: VirtioTransmit<Ring>
    private let device: MoodyDevice
    private let features: VirtioFeatures
    /// Frames that the device should get, and after how many writes of the driver's each was taken.
    private var frames: [(count: Int, offload: FrameOffload, bytes: [UInt8], writes: Int)] = []
    private var chains = 0
    private var refused = 0
    private var writes = 0
    private var seen = 0

    init(_ driver: Driver, _ ring: consuming Ring, _ features: VirtioFeatures) {
        self.driver = driver
        self.features = features
        let bus = MemoryBus()
        guard let windows = GuestWindows(rig.map, on: bus) else { fatalError("no windows") }
        side = VirtioTransmit(ring: ring, rules: VirtioFrameRules(features), memory: windows, bus: bus)
        device = MoodyDevice(bus)
        side.use(device)
    }

    mutating func step(_ input: inout ByteReader) {
        let code = input.byte()
        if code % 8 < 6 { writes += 1 }
        switch code % 8 {
        case 0, 1:
            driver.describe(VirtioRig.address(&input), VirtioRig.length(&input), flags: UInt64(code >> 4), name: input.byte())
        case 2: driver.show(input.byte())
        case 3:
            // A header near the beginning of the data, with what headers have.
            let at = VirtioRig.data + 16 * UInt64(code >> 6)
            rig.slow.put(UInt64(code >> 4 & 1) | UInt64(input.byte()) << 8, 2, at: at)
            for place in [2, 4, 6, 8] as [UInt64] {
                rig.slow.put(UInt64(input.byte()) | UInt64(code >> 5 & 1) << 12, 2, at: at + place)
            }
        case 4: rig.describe(&input, isPacked: driver.isPacked)
        case 5: rig.scribble(&input)
        case 6: device.mood = code >> 4 & 3
        default: work()
        }
    }

    /// Lets both take what is there.
    private mutating func work() {
        guard !side.isBlocked else {
            side.sendAll()
            return check()
        }
        for _ in 0..<VirtioTransmit<Ring>.turn {
            guard case .chain(let chain) = driver.slow.take() else { break }
            chains += 1
            driver.out.append(chain)
            switch expected(chain.runs, features) {
            case .refused: refused += 1
            case .frame(let count, let offload): frames.append((count, offload, gather(chain.runs, from: 12, in: rig), writes))
            }
        }
        let (taken, rejected) = side.work()
        require(rejected <= taken, "\(rejected) of \(taken)")
        check()
    }

    private mutating func check() {
        require(device.taken.count <= frames.count, "\(device.taken.count) frames of \(frames.count)")
        while seen < device.taken.count {
            let (frame, other) = (frames[seen], device.taken[seen])
            require(other.bytes.count == frame.count && other.offload == frame.offload, "frame \(seen): \(other), not \(frame)")
            if frame.writes == writes { require(other.bytes == frame.bytes, "frame \(seen): other bytes") }
            seen += 1
        }
        let counts = side.counts
        require(Int(counts.sent + counts.dropped) + side.ring.unanswered == chains, "\(counts): of \(chains) chains")
        require(side.isBlocked || side.ring.unanswered == 0, "chains without answers")
        require((side.ring.fault != nil) == driver.slow.isBroken || side.isBlocked, "fault \(String(describing: side.ring.fault))")
        _ = side.ring.publish()
        // The obvious device answers as many, so that it has room for as many.
        driver.settle(side.ring.unanswered)
    }

    mutating func end() {
        device.mood = 0
        while side.isBlocked {
            side.sendAll()
            check()
        }
        work()
        require(device.taken.count == frames.count, "\(device.taken.count) frames of \(frames.count)")
        require(Int(side.counts.dropped) >= refused, "\(side.counts), \(refused) refused")
        side.close()
        require(side.ring.unanswered == 0, "chains without answers at the end")
    }
}
