// Chains of a packed ring, from the flags of their first entry to a value.

import SharedMemory
import VirtioWire

extension PackedDeviceRing {
    /// See `DeviceRing.hasChains`: one load at most.
    @inlinable @inline(__always)
    public mutating func hasChains() -> Bool {
        !leftOver.isEmpty
            || breach == nil && Self.isAvailable(PackedDescriptor.loadFlags(ring.region, at: place(consumed)), consumed.wrap)
    }

    /// See `DeviceRing.take`.
    @inlinable
    public mutating func take<Memory: GuestMemory>(
        into chain: inout DescriptorChain, from memory: Memory
    ) throws(VirtqueueError) -> Taken {
        if let breach { throw breach }
        if !leftOver.isEmpty { return try takeLeftOver(into: &chain, from: memory) }
        let flags = PackedDescriptor.loadFlags(ring.region, at: place(consumed))
        guard Self.isAvailable(flags, consumed.wrap) else { return .none }
        do throws(VirtqueueError) {
            guard try walk(flags, into: &chain, memory) else { return .later }
            guard !inFlight.contains(chain.name.id) else { throw .alreadyInFlight(chain.name.id) }
            guard memory.settle(&chain) else { return .later }
        } catch {
            breach = error
            throw error
        }
        _ = inFlight.insert(chain.name.id)
        ledger.willTake(chain.name)
        consumed.advance(by: chain.name.entries, size: entries)
        outstanding &+= chain.name.entries
        return .chain
    }

    /// What a predecessor had taken: still in flight, and in the ledger as it is.
    @usableFromInline
    mutating func takeLeftOver<Memory: GuestMemory>(
        into chain: inout DescriptorChain, from memory: Memory
    ) throws(VirtqueueError) -> Taken {
        guard let left = leftOver.last else { return .none }
        let count = left.descriptors.count
        do throws(VirtqueueError) {
            chain.removeAll()
            var wroteBefore = false
            for one in left.descriptors {
                guard try append(one, isOnly: count == 1, to: &chain, &wroteBefore, memory) else { return .later }
            }
        } catch {
            breach = error
            throw error
        }
        chain.name = ChainTicket(id: left.id, entries: UInt16(count))
        guard memory.settle(&chain) else { return .later }
        leftOver.removeLast()
        return .chain
    }

    /// Appends what one descriptor names; false: its table has no answer yet.
    @inlinable @inline(__always)
    func append<Memory: GuestMemory>(
        _ one: PackedDescriptor, isOnly: Bool, to chain: inout DescriptorChain, _ wroteBefore: inout Bool, _ memory: Memory
    ) throws(VirtqueueError) -> Bool {
        guard one.flags.contains(.indirect) else {
            try chain.admit(one.address, one.byteCount, one.flags, &wroteBefore, memory)
            return true
        }
        guard takesTables else { throw .tableNotNegotiated }
        guard isOnly else { throw .tableInChain }
        return try chain.appendTable(one.address, one.byteCount, ringSize: Int(entries), isPacked: true, &wroteBefore, memory)
    }

    /// Follows the chain whose first entry's flags were loaded; false if its table has no answer yet.
    @inlinable @inline(__always)
    mutating func walk<Memory: GuestMemory>(
        _ first: DescriptorFlags, into chain: inout DescriptorChain, _ memory: Memory
    ) throws(VirtqueueError) -> Bool {
        chain.removeAll()
        var flags = first
        var position = consumed
        var wroteBefore = false
        var count: UInt16 = 0
        // What is out is the device's, and cannot have been made available again.
        let limit = entries &- outstanding
        while count < limit {
            let one = PackedDescriptor(ring.region, at: place(position), flags: flags)
            ledger.note(one, step: count)
            count &+= 1
            guard try append(one, isOnly: count == 1 && !flags.contains(.next), to: &chain, &wroteBefore, memory) else {
                return false
            }
            if !flags.contains(.next) {
                chain.name = ChainTicket(id: one.id, entries: count)
                return true
            }
            position.advance(by: 1, size: entries)
            // The driver wrote all of a chain before its first flags, which were acquired.
            flags = PackedDescriptor.loadFlags(ring.region, at: place(position))
        }
        throw .chainTooLong(limit: Int(limit))
    }
}
