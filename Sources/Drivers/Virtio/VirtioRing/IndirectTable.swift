// A chain's table of descriptors in the driver's memory. The entries are loaded one by one, each once, into private
// memory; nothing is decided on the table itself. One that lies across regions is copied out first.

import SharedMemory
import VirtioWire

/// What a device takes at most, beside what the ring's own size says.
@usableFromInline
enum ChainLimits {
    /// Entries of a table: what Linux's and QEMU's own devices take, where the ring is not larger still.
    @inlinable static var mostTableEntries: Int { 1024 }
}

extension DescriptorChain {
    /// Appends what a table names; false: the table's memory has no answer yet.
    @inlinable
    mutating func appendTable<Memory: GuestMemory>(
        _ address: UInt64, _ byteCount: UInt32, ringSize: Int, isPacked: Bool, _ wroteBefore: inout Bool, _ memory: Memory
    ) throws(VirtqueueError) -> Bool {
        guard byteCount > 0, byteCount % 16 == 0 else { throw .tableLength(byteCount) }
        let count = byteCount / 16
        let limit = max(ringSize, ChainLimits.mostTableEntries)
        guard count <= limit else { throw .tableTooLong(entries: count, limit: limit) }
        guard address <= UInt64.max &- UInt64(byteCount) else { throw .wraps(address: address, byteCount: byteCount) }
        let run = GuestRun(address: address, byteCount: byteCount)
        guard memory.admits(run, forWriting: false) else {
            throw .outsideMemory(address: address, byteCount: byteCount, forWriting: false)
        }
        switch memory.piece(run, forWriting: false) {
        case .later: return false
        case .outside:
            // Admitted, and not there after all: a chain of which nothing is known, and no fault of the ring's.
            removeAll()
            return true
        case .here(let region, let offset, let found) where found == byteCount:
            try appendEntries(count, isPacked, &wroteBefore, memory) { entry in
                let place = offset &+ Int(entry) &* 16
                return (UInt64(littleEndian: region.load(place)), UInt64(littleEndian: region.load(place &+ 8)))
            }
            return true
        case .here: return try appendCutTable(run, isPacked, &wroteBefore, memory)
        }
    }

    /// The same for a table that lies in several regions.
    @usableFromInline
    mutating func appendCutTable<Memory: GuestMemory>(
        _ run: GuestRun, _ isPacked: Bool, _ wroteBefore: inout Bool, _ memory: Memory
    ) throws(VirtqueueError) -> Bool {
        let (bytes, reach) = memory.bytes(of: run)
        guard let bytes else {
            if reach == .later { return false }
            removeAll()
            return true
        }
        func word(_ place: Int) -> UInt64 {
            (0..<8).reduce(0) { $0 | UInt64(bytes[place + $1]) << UInt64(8 * $1) }
        }
        try appendEntries(run.byteCount / 16, isPacked, &wroteBefore, memory) { entry in
            (word(Int(entry) * 16), word(Int(entry) * 16 + 8))
        }
        return true
    }

    /// A split ring's table is a list, of which each entry may be met once; a packed ring's is an array.
    @inlinable @inline(__always)
    mutating func appendEntries<Memory: GuestMemory>(
        _ count: UInt32, _ isPacked: Bool, _ wroteBefore: inout Bool, _ memory: Memory, _ words: (UInt32) -> (UInt64, UInt64)
    ) throws(VirtqueueError) {
        if isPacked {
            for entry in 0..<count {
                let pair = words(entry)
                let one = PackedDescriptor(words: pair.0, pair.1)
                if one.flags.contains(.indirect) { throw .tableInTable }
                try admit(one.address, one.byteCount, one.flags, &wroteBefore, memory)
            }
            return
        }
        var entry: UInt32 = 0
        for _ in 0..<count {
            let pair = words(entry)
            let one = SplitDescriptor(words: pair.0, pair.1)
            if one.flags.contains(.indirect) { throw .tableInTable }
            try admit(one.address, one.byteCount, one.flags, &wroteBefore, memory)
            if !one.flags.contains(.next) { return }
            entry = UInt32(one.next)
            guard entry < count else { throw .noSuchDescriptor(one.next, size: Int(count)) }
        }
        throw .chainTooLong(limit: Int(count))
    }
}
