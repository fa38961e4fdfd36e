// Chains of a packed ring, from the flags of their first entry to a value.

import SharedMemory
import VirtioWire

extension PackedDeviceRing {
    /// See `DeviceRing.hasChains`: one load at most.
    @inlinable @inline(__always)
    public mutating func hasChains() -> Bool {
        breach == nil && Self.isAvailable(PackedDescriptor.loadFlags(ring.region, at: place(consumed)), consumed.wrap)
    }

    /// See `DeviceRing.take`.
    @inlinable
    public mutating func take<Memory: GuestMemory>(
        into chain: inout DescriptorChain, from memory: Memory
    ) throws(VirtqueueError) -> Taken {
        if let breach { throw breach }
        let flags = PackedDescriptor.loadFlags(ring.region, at: place(consumed))
        guard Self.isAvailable(flags, consumed.wrap) else { return .none }
        do throws(VirtqueueError) {
            guard try walk(flags, into: &chain, memory) else { return .later }
            guard inFlight.insert(chain.name.id) else { throw .alreadyInFlight(chain.name.id) }
        } catch {
            breach = error
            throw error
        }
        consumed.advance(by: chain.name.entries, size: entries)
        outstanding &+= chain.name.entries
        return .chain
    }

    /// Follows the chain whose first entry's flags were loaded; false if its table has no answer yet.
    @inlinable @inline(__always)
    func walk<Memory: GuestMemory>(
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
            count &+= 1
            if flags.contains(.indirect) {
                guard takesTables else { throw .tableNotNegotiated }
                guard count == 1, !flags.contains(.next) else { throw .tableInChain }
                guard
                    try chain.appendTable(
                        one.address, one.byteCount, ringSize: Int(entries), isPacked: true, &wroteBefore, memory)
                else { return false }
            } else {
                try chain.admit(one.address, one.byteCount, flags, &wroteBefore, memory)
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
