// A disk that holds what it is given until the test ends it, or ends it at once where the test's rule says so.

import BlockDevices
import BlockModel
import DMA

/// One operation at the disk.
struct AtDisk: Equatable {
    /// The request that it is a stage of, and which.
    var id: Int
    var stage: Int
    var operation: DeviceOperation
    var tag: UInt32
    /// The first address of its data; nil: it has none.
    var address: UInt64?
}

final class HeldDisk: BlockDeviceQueue {
    private let names: RequestNames
    private var stages: [Int: Int] = [:]
    private(set) var held: [AtDisk] = []
    /// All that was begun, in order.
    private(set) var begun: [AtDisk] = []
    /// What ends at once.
    var immediate: (AtDisk) -> DeviceResult? = { _ in nil }
    var inFlight: Int { held.count }

    init(_ names: RequestNames) { self.names = names }

    func submit(_ operation: DeviceOperation, tag: UInt32, segments: Span<BusSegment>) -> DeviceResult? {
        let id = names.byTag[tag] ?? -1
        stages[id, default: 0] += 1
        let work = AtDisk(
            id: id, stage: stages[id] ?? 0, operation: operation, tag: tag,
            address: segments.isEmpty ? nil : segments[0].address.rawValue)
        begun.append(work)
        if let result = immediate(work) { return result }
        held.append(work)
        return nil
    }

    /// Lets go of the operation `index` of those that are held.
    func release(_ index: Int) -> AtDisk { held.remove(at: index) }

    func close() {}
}
