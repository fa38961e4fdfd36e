// A disk that does nothing at once: what the path costs without a device, and a sink. Reads leave memory as it was.

import DMA
import LinuxSystem
import Reactor

/// A disk whose operations succeed inside `submit`. Addresses are resolved all the same, so that a wrong one faults
/// here too.
public final class NullDisk: BlockDevice {
    /// `null:BYTES`.
    public let name: String
    /// Fixed when it was made.
    public let geometry: BlockGeometry

    /// A disk of `byteCount` bytes, rounded down to whole sectors of 512.
    public init(byteCount: UInt64, isReadOnly: Bool = false) {
        name = "null:\(byteCount)"
        geometry = BlockGeometry(
            byteCount: byteCount & ~511, physicalSectorSize: 4096, isReadOnly: isReadOnly,
            discard: isReadOnly ? nil : DiscardLimits(granularity: 4096), zeroes: isReadOnly ? nil : .canUnmap, canFlush: false)
    }

    /// The same as ever.
    public func refreshGeometry() throws(Errno) -> BlockGeometry { geometry }

    /// A queue without a place on the reactor: there is nothing to wait for.
    public func openQueue(
        on reactor: Reactor, bus: MemoryBus, depth: Int, owner: any BlockQueueOwner
    ) throws(Errno) -> any BlockDeviceQueue {
        NullQueue(bus, geometry)
    }
}

private final class NullQueue: BlockDeviceQueue {
    private let bus: MemoryBus
    private let geometry: BlockGeometry
    private(set) var statistics = DeviceStatistics()
    var inFlight: Int { 0 }

    init(_ bus: MemoryBus, _ geometry: BlockGeometry) {
        self.bus = bus
        self.geometry = geometry
    }

    func submit(_ operation: DeviceOperation, tag: UInt32, segments: Span<BusSegment>) -> DeviceResult? {
        statistics.submitted &+= 1
        var total: UInt64 = 0
        let direction: DMADirection = if case .read = operation { .fromDevice } else { .toDevice }
        for index in segments.indices {
            let segment = segments[index]
            if !bus.isInOnePiece(segment, direction), !bus.isReachable(segment, direction) { return fail(.badAddress) }
            total += UInt64(segment.byteCount)
        }
        if let refusal = geometry.refusal(of: operation, byteCount: total) { return fail(refusal) }
        statistics.count(operation, byteCount: total, .done)
        return .done
    }

    func close() {}

    private func fail(_ error: Errno) -> DeviceResult {
        statistics.errors &+= 1
        return .failed(error)
    }
}
