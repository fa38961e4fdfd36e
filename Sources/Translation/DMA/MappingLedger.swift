// Which mappings are live, and what each is: the record against which every unmap and sync is checked. Always on; see
// Docs/translation.md for what it costs.

import FrameMaps
import Synchronization

/// What was mapped, and is to be ended the same way.
enum MappingKind: UInt8 {
    /// Pieces of pages.
    case transfer
    /// Memory that both sides use at the same time.
    case coherent
    /// Address space that pieces are linked into.
    case reservation
}

struct MappingLedger: ~Copyable {
    struct Record {
        var generation: UInt32 = 0
        var isLive = false
        var kind = MappingKind.transfer
        var direction = DMADirection.toDevice
        var reasons = BounceReasons()
        var iovaPages: Int32 = 0
        var firstBounce: Int32 = -1
        /// Pages beyond the first run.
        var moreRuns: Int32 = -1
        var byteCount: UInt64 = 0
        var iova = Iova(rawValue: 0)
        var pages = PageRun()
    }

    /// Consecutive pages of a transfer, in the order of its pieces.
    struct PageRun {
        var start: UInt64 = 0
        var count: UInt32 = 0
        var next: Int32 = -1
    }

    private var records = Slab(filler: Record())
    private var runs = Slab(filler: PageRun())
    private(set) var maps: UInt64 = 0
    private(set) var unmaps: UInt64 = 0
    private(set) var misuses: UInt64 = 0
    /// Transfers that a device writes while another has the same page.
    private(set) var overlaps: UInt64 = 0
    /// Of this process's devices, whose handles these are.
    let device: UInt32
    /// Generations and devices are numbers of 24 and 16 bits, so that a handle fits into 64 (`DMAHandle.number`).
    static let generationMask: UInt32 = 0xFF_FFFF
    static let deviceMask: UInt32 = 0xFFFF

    private static let devices = Atomic<UInt32>(1)

    init() { device = Self.devices.wrappingAdd(1, ordering: .relaxed).newValue & Self.deviceMask }

    var live: Int { Int(maps &- unmaps) }

    /// Takes a record.
    @inline(__always)
    mutating func open(_ kind: MappingKind, _ direction: DMADirection, byteCount: UInt64) -> DMAHandle {
        maps &+= 1
        let index = records.add()
        let generation = records[index].generation
        records[index] = Record(generation: generation, isLive: true, kind: kind, direction: direction, byteCount: byteCount)
        return DMAHandle(index: UInt32(truncatingIfNeeded: index), generation: generation, device: device)
    }

    /// The same for a transfer of a device on the direct map, whose records have nothing that has to be undone: a few
    /// words instead of a whole record, for every packet of an interface pays for them.
    @inline(__always)
    mutating func openDirect(_ direction: DMADirection, byteCount: UInt64) -> DMAHandle {
        maps &+= 1
        let index = records.add()
        let generation = records[index].generation
        records[index].isLive = true
        records[index].kind = .transfer
        records[index].direction = direction
        records[index].byteCount = byteCount
        return DMAHandle(index: UInt32(truncatingIfNeeded: index), generation: generation, device: device)
    }

    /// Counts a transfer in the direct map that is over.
    @inline(__always)
    mutating func passDirect() {
        maps &+= 1
        unmaps &+= 1
    }

    /// Ends a transfer in the direct map, if it is live and of this direction.
    @inline(__always)
    mutating func closeDirect(_ handle: DMAHandle, _ direction: DMADirection) throws(DMAError) {
        let index = Int32(truncatingIfNeeded: handle.index)
        guard handle.device == device, Int(handle.index) < records.used, records[index].isLive,
            records[index].generation == handle.generation, records[index].kind == .transfer, records[index].direction == direction
        else {
            // Which of these it is, is worth a second look.
            _ = try find(handle, .transfer, direction)
            return
        }
        records[index].isLive = false
        records[index].generation = (handle.generation &+ 1) & Self.generationMask
        records.remove(index)
        unmaps &+= 1
    }

    /// Completes a record just opened.
    @inline(__always)
    mutating func fill(_ handle: DMAHandle, _ change: (inout Record) -> Void) {
        change(&records[Int32(truncatingIfNeeded: handle.index)])
    }

    /// The record, if it is live and of this kind and direction.
    @inline(__always)
    mutating func find(_ handle: DMAHandle, _ kind: MappingKind, _ direction: DMADirection?) throws(DMAError) -> Record {
        guard handle.device == device, Int(handle.index) < records.used else { throw misuse(.notMapped) }
        let record = records[Int32(truncatingIfNeeded: handle.index)]
        guard record.isLive, record.generation == handle.generation else { throw misuse(.notMapped) }
        guard record.kind == kind else { throw misuse(.wrongKind) }
        // What is mapped both ways may be synchronized either way, but is unmapped as it was mapped.
        if let direction, record.direction != direction { throw misuse(.wrongDirection) }
        return record
    }

    /// Ends a record that `find` gave.
    @inline(__always)
    mutating func close(_ handle: DMAHandle) {
        let index = Int32(truncatingIfNeeded: handle.index)
        records[index].isLive = false
        records[index].generation = (handle.generation &+ 1) & Self.generationMask
        records.remove(index)
        unmaps &+= 1
    }

    /// Counts a wrong use; the error is for the caller.
    mutating func misuse(_ error: DMAError) -> DMAError {
        misuses &+= 1
        return error
    }

    mutating func countOverlap() { overlaps &+= 1 }

    // MARK: Pages

    /// Adds a run after the record's others.
    mutating func addRun(_ run: PageRun, before next: Int32) -> Int32 {
        let index = runs.add()
        runs[index] = PageRun(start: run.start, count: run.count, next: next)
        return index
    }

    func run(_ index: Int32) -> PageRun { runs[index] }

    mutating func removeRun(_ index: Int32) { runs.remove(index) }

    /// One of the mappings that are live.
    var anyLive: DMALeak? {
        for index in 0..<Int32(truncatingIfNeeded: records.used) where records[index].isLive {
            let record = records[index]
            return DMALeak(count: live, exampleByteCount: Int(record.byteCount), exampleDirection: record.direction)
        }
        return nil
    }
}
