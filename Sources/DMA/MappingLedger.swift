// Which mappings are live, and what each is: the record against which every unmap and sync is checked. One value, so that its owner's class pays
// for access once an operation and not once a field.

import FrameMaps

struct MappingLedger {
    struct Record {
        var generation: UInt32 = 0
        var isLive = false
        var direction = DMADirection.toDevice
        var iovaPages: Int32 = 0
        var firstBounce: Int32 = -1
        var byteCount: UInt64 = 0
        var iova = Iova(rawValue: 0)
    }

    private var records: [Record] = []
    private var unused: [UInt32] = []
    private(set) var maps: UInt64 = 0
    private(set) var unmaps: UInt64 = 0
    private(set) var misuses: UInt64 = 0

    var live: Int { Int(maps &- unmaps) }

    /// Takes a record; `nil` details: nothing but the direction matters.
    @inline(__always)
    mutating func open(_ direction: DMADirection) -> DMAHandle {
        maps &+= 1
        guard let index = unused.popLast() else {
            records.append(Record(isLive: true, direction: direction))
            return DMAHandle(index: UInt32(records.count - 1), generation: 0)
        }
        records[Int(index)].isLive = true
        records[Int(index)].direction = direction
        return DMAHandle(index: index, generation: records[Int(index)].generation)
    }

    /// Completes a record just opened.
    mutating func fill(_ handle: DMAHandle, _ change: (inout Record) -> Void) { change(&records[Int(handle.index)]) }

    /// The record, if it is live and of this direction.
    @inline(__always)
    mutating func find(_ handle: DMAHandle, _ direction: DMADirection) throws(DMAError) -> Record {
        let index = Int(handle.index)
        guard index < records.count, records[index].isLive, records[index].generation == handle.generation else {
            misuses &+= 1
            throw .notMapped
        }
        guard records[index].direction == direction else {
            misuses &+= 1
            throw .wrongDirection
        }
        return records[index]
    }

    /// Ends a record that `find` gave.
    @inline(__always)
    mutating func close(_ handle: DMAHandle) {
        records[Int(handle.index)] = Record(generation: handle.generation &+ 1)
        unused.append(handle.index)
        unmaps &+= 1
    }

    mutating func countMisuse() { misuses &+= 1 }
}
