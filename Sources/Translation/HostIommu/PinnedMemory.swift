// Memory that iommufd holds: a set of pages is pinned and counted once, however many mappings share it, and mappings
// share it when one is made as a copy of another (`IOMMU_IOAS_COPY`), which must be of the same range.

import FrameMaps
import SharedMemory

struct PinnedMemory {
    /// What makes two runs the same set: the same memory object, and the same part of it.
    struct Key: Hashable {
        let region: ObjectIdentifier
        let firstPage: Int
        let pageCount: Int
        init(_ memory: MemoryRun) {
            region = ObjectIdentifier(memory.region)
            firstPage = memory.firstPage
            pageCount = memory.pageCount
        }
    }
    /// A mapping of a set: what a copy can be made of.
    struct Source: Hashable {
        let space: UInt32
        let iova: UInt64
    }
    /// A set: the kernel decides when the set is made whether devices may ever write it.
    struct Pages {
        let serial: UInt64
        let isWritable: Bool
        var sources: [Source]
    }
    private var sets: [Key: [Pages]] = [:]
    private var nextSerial: UInt64 = 0

    /// A mapping to copy for one that needs these permissions; nil if there is none.
    func source(_ memory: MemoryRun, writes: Bool) -> (serial: UInt64, source: Source)? {
        guard let set = sets[Key(memory)]?.first(where: { $0.isWritable || !writes }), let source = set.sources.first
        else { return nil }
        return (set.serial, source)
    }

    /// Records a mapping made anew; returns its set.
    mutating func add(_ memory: MemoryRun, writes: Bool, _ source: Source) -> UInt64 {
        nextSerial += 1
        sets[Key(memory), default: []].append(Pages(serial: nextSerial, isWritable: writes, sources: [source]))
        return nextSerial
    }

    /// Records a copy.
    mutating func add(_ memory: MemoryRun, set: UInt64, _ source: Source) {
        guard let index = sets[Key(memory)]?.firstIndex(where: { $0.serial == set }) else { return }
        sets[Key(memory)]?[index].sources.append(source)
    }

    /// Forgets a mapping; true if it was its set's last, so that the pages are not pinned any more.
    mutating func remove(_ memory: MemoryRun, set: UInt64, _ source: Source) -> Bool {
        let key = Key(memory)
        guard var all = sets[key], let index = all.firstIndex(where: { $0.serial == set }) else { return false }
        all[index].sources.removeAll { $0 == source }
        let isLast = all[index].sources.isEmpty
        if isLast { all.remove(at: index) }
        sets[key] = all.isEmpty ? nil : all
        return isLast
    }

    /// Whether any address space has something at an address.
    func isMapped(_ iova: Iova) -> Bool {
        sets.contains { key, all in
            all.contains { set in
                set.sources.contains { iova.rawValue >= $0.iova && iova.rawValue - $0.iova < UInt64(key.pageCount) << frameShift }
            }
        }
    }
}
