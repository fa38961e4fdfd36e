// Which mappings of a back end are live, and the memory of each, which stays mapped in this process as long as its
// record does.

import DMA
import Synchronization

struct MappingTable<Detail> {
    struct Record {
        let memory: MemoryRun
        let mapping: BackEndMapping
        var detail: Detail
    }

    private let owner = nextOwner.wrappingAdd(1, ordering: .relaxed).newValue
    private var records: [UInt64: Record] = [:]
    private var nextSerial: UInt64 = 0

    var count: Int { records.count }
    var all: [Record] { Array(records.values) }

    /// Records a mapping that has been made. Numbers are never used again.
    mutating func add(_ memory: MemoryRun, _ segments: [BusSegment], _ direction: DMADirection, _ detail: Detail) -> BackEndMapping
    {
        nextSerial += 1
        let mapping = BackEndMapping(
            segments: segments, direction: direction, byteCount: memory.byteCount, owner: owner, serial: nextSerial)
        records[nextSerial] = Record(memory: memory, mapping: mapping, detail: detail)
        return mapping
    }

    /// The record of a mapping, if it is this back end's and live.
    func find(_ mapping: BackEndMapping) throws(DMABackEndError) -> Record {
        guard mapping.owner == owner, let record = records[mapping.serial] else { throw .notMapped }
        return record
    }

    /// Forgets a mapping that `find` gave, and lets go of its memory.
    mutating func remove(_ mapping: BackEndMapping) { records[mapping.serial] = nil }

    mutating func removeAll() { records.removeAll() }

    /// That `byteCount` bytes at `offset` are a part of the mapping.
    func check(_ mapping: BackEndMapping, _ offset: UInt64, _ byteCount: UInt64) throws(DMABackEndError) {
        let record = try find(mapping)
        guard offset <= record.mapping.byteCount, byteCount <= record.mapping.byteCount - offset else {
            throw .outsideMapping(offset: offset, byteCount: byteCount, mapped: record.mapping.byteCount)
        }
    }
}

private let nextOwner = Atomic<UInt64>(0)
