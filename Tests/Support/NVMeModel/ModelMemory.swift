// The memory that a model controller reaches: regions at addresses that only this gives out, and every access outside
// of them noted.

import DMA
import SharedMemory
import Synchronization

/// Regions on a model's bus, as an IOMMU would have them.
public final class ModelMemory: BusAddressSource {
    private struct Entry {
        let region: SharedRegion
        let start: UInt64
        var count = 1
    }
    private struct State {
        var entries: [Entry] = []
        // Apart, so that running off the end of a region lands in none; below 4 GiB, as type1 gives them.
        var next: UInt64 = 0x10_0000
        var faults: [String] = []
        var room = Int.max
    }
    private let state = Mutex(State())

    /// Nothing in it.
    public init() {}

    /// See `BusAddressSource`.
    public func place(_ region: SharedRegion) -> BusAddress? {
        state.withLock { state in
            if let index = state.entries.firstIndex(where: { $0.region === region }) {
                state.entries[index].count += 1
                return BusAddress(rawValue: state.entries[index].start)
            }
            guard state.entries.count < state.room else { return nil }
            let start = state.next
            state.next += UInt64(region.byteCount) + 0x10000
            state.entries.append(Entry(region: region, start: start))
            return BusAddress(rawValue: start)
        }
    }

    /// See `BusAddressSource`.
    public func remove(_ region: SharedRegion) {
        state.withLock { state in
            guard let index = state.entries.firstIndex(where: { $0.region === region }) else {
                state.faults.append("a region removed that is not there")
                return
            }
            state.entries[index].count -= 1
            if state.entries[index].count == 0 { state.entries.remove(at: index) }
        }
    }

    /// How many regions are there.
    public var count: Int { state.withLock { $0.entries.count } }
    /// The most regions that find room.
    public var room: Int {
        get { state.withLock { $0.room } }
        set { state.withLock { $0.room = newValue } }
    }
    /// Accesses that led nowhere.
    public var faults: [String] { state.withLock { $0.faults } }

    private func find(_ address: UInt64, _ count: Int, writes: Bool) -> (SharedRegion, Int)? {
        state.withLock { state in
            for entry in state.entries {
                let offset = address &- entry.start
                guard address >= entry.start, offset + UInt64(count) <= UInt64(entry.region.byteCount) else { continue }
                guard !writes || entry.region.isWritable else { break }
                return (entry.region, Int(offset))
            }
            state.faults.append("\(writes ? "write" : "read") of \(count) bytes at 0x\(String(address, radix: 16))")
            return nil
        }
    }

    /// Bytes as the device reads them; zeroes where nothing is.
    public func read(_ address: UInt64, _ count: Int) -> [UInt8] {
        guard let (region, offset) = find(address, count, writes: false) else { return [UInt8](repeating: 0, count: count) }
        return region.bytes(at: offset, count: count)
    }

    /// The device writes.
    public func write(_ bytes: [UInt8], at address: UInt64) {
        guard let (region, offset) = find(address, bytes.count, writes: true) else { return }
        region.write(bytes, at: offset)
    }

    /// The device writes a word that the driver waits for, behind all else.
    func release(_ word: UInt32, at address: UInt64) {
        guard let (region, offset) = find(address, 4, writes: true) else { return }
        region.storeReleasing(word, at: offset)
    }
}
