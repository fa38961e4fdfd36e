// One driver's way to a model disk.

import BlockDevices
import DMA
import LinuxSystem
import Reactor
import Simulation

/// Holds operations until `work` ends them.
final class ModelDiskQueue: BlockDeviceQueue {
    private let disk: ModelDisk
    private let bus: MemoryBus
    private let reactor: Reactor
    private let depth: Int
    private var owner: (any BlockQueueOwner)?
    private var held: [HeldOperation] = []
    var inFlight: Int { held.count }

    init(_ disk: ModelDisk, _ bus: MemoryBus, _ reactor: Reactor, _ owner: any BlockQueueOwner, depth: Int) {
        self.disk = disk
        self.bus = bus
        self.reactor = reactor
        self.owner = owner
        self.depth = depth
    }

    func submit(_ operation: DeviceOperation, tag: UInt32, segments: Span<BusSegment>) -> DeviceResult? {
        var list: [BusSegment] = []
        for index in segments.indices { list.append(segments[index]) }
        var new = HeldOperation(operation: operation, tag: tag, segments: list)
        if let refusal = disk.geometry.refusal(of: operation, byteCount: UInt64(new.byteCount)) { return .failed(refusal) }
        if held.contains(where: { $0.tag == tag }) { disk.violate("tag \(tag) is asked for twice") }
        if held.count >= depth { disk.violate("\(held.count + 1) operations, of \(depth) that were agreed") }
        if case .flush = operation { new.mark = disk.mark() }
        held.append(new)
        disk.host.trace.note(1 << 32 | UInt64(tag), "disk: \(operation) of \(new.byteCount) bytes begins as \(tag)")
        return nil
    }

    /// Performs one operation, or ends one, or both.
    func work() {
        let chance = disk.host.chance
        let index = chance.below(held.count)
        if !held[index].isPerformed {
            let fails = disk.host.faults.happens(.deviceError, oneIn: 150)
            if fails { return fail(index) }
            perform(index)
            if chance.oneIn(3) { return }
        }
        end(index, .done)
    }

    private func perform(_ index: Int) {
        if !disk.perform(held[index], bus, on: { _ in true }) {
            disk.violate("\(held[index].operation): an address of a segment does not resolve")
        }
        if case .flush = held[index].operation { disk.flush(held[index].mark) }
        held[index].isPerformed = true
    }

    /// Fails one, having done some of it.
    private func fail(_ index: Int) {
        performInPart(index)
        end(index, .failed(.ioError))
    }

    private func performInPart(_ index: Int) {
        let chance = disk.host.chance
        let share = chance.below(3)
        if share > 0, held[index].operation != .flush {
            _ = disk.perform(held[index], bus, on: { _ in share == 2 || chance.oneIn(2) })
        }
    }

    private func end(_ index: Int, _ result: DeviceResult) {
        let operation = held.remove(at: index)
        disk.answered(operation)
        disk.host.trace.note(2 << 32 | UInt64(operation.tag), "disk: \(operation.tag) ends: \(result)")
        // A completion wakes whoever waits for one.
        reactor.rouse()
        owner?.deviceCompleted(tag: operation.tag, result: result)
    }

    /// Whoever drove it is no more.
    func forget() {
        owner = nil
        for index in held.indices where !held[index].isPerformed && disk.host.chance.oneIn(2) { performInPart(index) }
        // What was done is in the cache as if somebody had heard of it: whoever flushes next flushes it, too.
        for operation in held { disk.answered(operation) }
        held = []
    }

    func close() {
        if !held.isEmpty { forget() }
        owner = nil
        disk.left(self)
    }
}
