// A disk as a device is: it has a cache, does what it has been asked in any order, at any time until it says so, and
// keeps of what was not flushed whatever it likes when the power fails.

import BlockDevices
import DMA
import LinuxSystem
import Reactor
import SharedMemory
import Simulation

/// The disk, which outlives whoever drives it. One thread.
final class ModelDisk: BlockDevice, @unchecked Sendable {
    let name = "model"
    let geometry: BlockGeometry
    let host: SimulatedHost
    /// What it was given that no driver may give a device, and what no device may be asked.
    private(set) var violations: [String] = []

    /// Of one sector: what is durable, then what was written since, oldest first.
    private struct Versions {
        var numbers: [UInt64] = [0]
        /// How many of them had been answered for; what was not, a flush does not cover.
        var answered = 1
    }
    private var sectors: [Versions]
    private var queues: [ModelDiskQueue] = []
    private let scratch: SharedRegion

    init(sectors count: Int, canDiscard: Bool, host: SimulatedHost) throws(Errno) {
        geometry = BlockGeometry(
            byteCount: UInt64(count) * 512, discard: canDiscard ? DiscardLimits(granularity: 512) : nil)
        self.host = host
        sectors = Array(repeating: Versions(), count: count)
        scratch = try SharedRegion(anonymous: 1 << 20)
    }

    func refreshGeometry() throws(Errno) -> BlockGeometry { geometry }

    func openQueue(
        on reactor: Reactor, bus: MemoryBus, depth: Int, owner: any BlockQueueOwner
    ) throws(Errno) -> any BlockDeviceQueue {
        let queue = ModelDiskQueue(self, bus, reactor, owner, depth: depth)
        queues.append(queue)
        return queue
    }

    func left(_ queue: ModelDiskQueue) { queues.removeAll { $0 === queue } }

    /// Operations that it holds.
    var inFlight: Int { queues.reduce(0) { $0 + $1.inFlight } }

    /// Does something of what it has been asked; false: there is nothing.
    func work() -> Bool {
        let busy = queues.filter { $0.inFlight > 0 }
        guard !busy.isEmpty else { return false }
        host.chance.pick(busy).work()
        return true
    }

    /// Whoever drove it was killed: what it holds is done, or begun, or not.
    func forget() {
        for queue in queues { queue.forget() }
        queues = []
    }

    /// Of what was not flushed each sector keeps any version.
    func failPower() {
        for index in sectors.indices {
            let kept = host.chance.pick(sectors[index].numbers)
            sectors[index] = Versions(numbers: [kept])
        }
    }

    // MARK: For its queues

    /// Does the work of one operation on some of its sectors, or on all.
    /// - Returns: false if an address did not resolve.
    func perform(_ held: HeldOperation, _ bus: MemoryBus, on part: (Int) -> Bool) -> Bool {
        switch held.operation {
        case .read(let offset):
            for (index, place) in (Int(offset / 512)..<Int(offset / 512) + held.byteCount / 512).enumerated() {
                SectorStamp.store(sectors[place].numbers.last ?? 0, sector: UInt64(place), in: scratch, at: index * 512)
            }
            return move(held.segments) { bus.write($0, from: scratch, at: $1) }
        case .write(let offset, _):
            guard move(held.segments, { bus.read($0, into: scratch, at: $1) }) else { return false }
            for index in 0..<held.byteCount / 512 where part(index) {
                let place = Int(offset / 512) + index
                guard let number = SectorStamp.number(of: scratch, at: index * 512, sector: UInt64(place)) else {
                    violate("sector \(place) was given bytes that nobody wrote there")
                    continue
                }
                sectors[place].numbers.append(number)
            }
        case .discard(let offset, let byteCount, _):
            let first = Int(offset / 512)
            for place in first..<first + Int(byteCount / 512) where part(place - first) && host.chance.oneIn(2) {
                sectors[place].numbers.append(0)
            }
        case .flush, .writeZeroes: break
        }
        return true
    }

    private func move(_ segments: [BusSegment], _ body: (BusSegment, Int) -> Bool) -> Bool {
        var offset = 0
        for segment in segments {
            guard body(segment, offset) else { return false }
            offset += Int(segment.byteCount)
        }
        return true
    }

    /// What a flush covers that is asked for at this moment: of each sector, so many versions.
    func mark() -> [Int] { sectors.map(\.answered) }

    func flush(_ mark: [Int]) {
        for index in sectors.indices where mark[index] > 1 {
            // Another flush may have been there first.
            let covered = min(mark[index], sectors[index].answered) - 1
            sectors[index].numbers.removeFirst(min(covered, sectors[index].numbers.count - 1))
            sectors[index].answered = max(1, sectors[index].answered - covered)
        }
    }

    /// What an operation did has been answered for.
    func answered(_ held: HeldOperation) {
        guard let range = held.range else { return }
        for index in range { sectors[index].answered = sectors[index].numbers.count }
        guard case .write(_, isDurable: true) = held.operation else { return }
        for index in range { sectors[index] = Versions(numbers: sectors[index].numbers.suffix(1)) }
    }

    func violate(_ text: String) { violations.append("the disk: \(text)") }
}

/// An operation that a disk holds.
struct HeldOperation {
    let operation: DeviceOperation
    let tag: UInt32
    let segments: [BusSegment]
    var isPerformed = false
    /// A flush's.
    var mark: [Int] = []
    var byteCount: Int { segments.reduce(0) { $0 + Int($1.byteCount) } }

    /// The sectors that it changes; nil: none.
    var range: Range<Int>? {
        switch operation {
        case .write(let offset, _): Int(offset / 512)..<Int(offset / 512) + byteCount / 512
        case .discard(let offset, let byteCount, _): Int(offset / 512)..<Int((offset + byteCount) / 512)
        case .read, .flush, .writeZeroes: nil
        }
    }
}
