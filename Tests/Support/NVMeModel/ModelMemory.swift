// The memory that a model controller reaches: regions at addresses that only this gives out, and every access outside
// of them noted. As an IOMMU has them, each in one run; or each page at a frame of its own, as a machine without one.

import DMA
import SharedMemory
import Synchronization

/// Regions on a model's bus.
public final class ModelMemory: BusAddressSource {
    private struct Entry {
        let region: SharedRegion
        let placement: BusPlacement
        var count = 1
    }
    private struct State {
        var entries: [Entry] = []
        /// Where regions were that were taken away all at once.
        var remembered: [(region: SharedRegion, placement: BusPlacement)] = []
        /// By frame: the page that it is, where each has its own.
        var pages: [UInt64: (region: SharedRegion, offset: Int)] = [:]
        var frames: UInt64 = 0
        // Apart, so that running off the end of a region lands in none; below 4 GiB, as type1 gives them.
        var next: UInt64 = 0x10_0000
        var faults: [String] = []
        var room = Int.max
    }
    private let state = Mutex(State())
    private let isScattered: Bool

    /// Nothing in it.
    /// - Parameter isScattered: whether each page has a frame of its own.
    public init(isScattered: Bool = false) { self.isScattered = isScattered }

    /// See `BusAddressSource`.
    public func place(_ region: SharedRegion, machine: () -> [UInt64]?) -> BusPlacement? {
        state.withLock { state in
            if let index = state.entries.firstIndex(where: { $0.region === region }) {
                state.entries[index].count += 1
                return state.entries[index].placement
            }
            guard state.entries.count < state.room else { return nil }
            if let known = state.remembered.first(where: { $0.region === region }) {
                state.entries.append(Entry(region: region, placement: known.placement))
                return known.placement
            }
            let placement = isScattered ? Self.scatter(region, &state) : Self.run(region, &state)
            state.entries.append(Entry(region: region, placement: placement))
            return placement
        }
    }

    private static func run(_ region: SharedRegion, _ state: inout State) -> BusPlacement {
        let start = state.next
        state.next += UInt64(region.byteCount) + 0x10000
        return .contiguous(DeviceAddress(rawValue: start))
    }

    /// Pairs of neighbours, in no order, beyond 4 GiB.
    private static func scatter(_ region: SharedRegion, _ state: inout State) -> BusPlacement {
        var addresses: [DeviceAddress] = []
        for page in 0..<region.pageCount {
            let pair = state.frames / 2 * 40503 % 65536
            let frame = 0x14_0000 + pair * 4 + state.frames % 2
            precondition(state.pages[frame] == nil, "more pages than a model's machine has")
            state.pages[frame] = (region, page * SharedRegion.pageSize)
            addresses.append(DeviceAddress(rawValue: frame << 12))
            state.frames += 1
        }
        return .pages(addresses)
    }

    /// See `BusAddressSource`.
    public func remove(_ region: SharedRegion) {
        state.withLock { state in
            guard let index = state.entries.firstIndex(where: { $0.region === region }) else {
                state.faults.append("a region removed that is not there")
                return
            }
            state.entries[index].count -= 1
            if state.entries[index].count > 0 { return }
            if case .pages(let pages) = state.entries.remove(at: index).placement {
                for page in pages { state.pages[page.rawValue >> 12] = nil }
            }
        }
    }

    /// Takes everything away, and keeps its places for the same regions.
    public func forget() {
        state.withLock { state in
            for entry in state.entries where !state.remembered.contains(where: { $0.region === entry.region }) {
                state.remembered.append((entry.region, entry.placement))
            }
            state.entries = []
        }
    }

    /// Another region stands in a region's place, wherever that is.
    func replace(_ region: SharedRegion, by other: SharedRegion) {
        state.withLock { state in
            for index in state.entries.indices where state.entries[index].region === region {
                let entry = state.entries[index]
                state.entries[index] = Entry(region: other, placement: entry.placement, count: entry.count)
            }
            for index in state.remembered.indices where state.remembered[index].region === region {
                state.remembered[index].region = other
            }
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
            if let page = state.pages[address >> 12], Int(address & 0xFFF) + count <= SharedRegion.pageSize,
                !writes || page.region.isWritable
            {
                return (page.region, page.offset + Int(address & 0xFFF))
            }
            for entry in state.entries {
                guard case .contiguous(let start) = entry.placement else { continue }
                let offset = address &- start.rawValue
                guard address >= start.rawValue, offset + UInt64(count) <= UInt64(entry.region.byteCount) else { continue }
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
