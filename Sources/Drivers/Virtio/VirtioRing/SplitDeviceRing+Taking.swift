// Chains of a split ring, from the driver's index to a value. Everything is loaded once, and no number of the driver's
// is an index here before it was held against a limit.

import SharedMemory
import VirtioWire

extension SplitDeviceRing {
    /// See `DeviceRing.hasChains`: one load at most.
    @inlinable @inline(__always)
    public mutating func hasChains() -> Bool { !leftOver.isEmpty || available != consumed || refresh() }

    /// See `DeviceRing.take`.
    @inlinable
    public mutating func take<Memory: GuestMemory>(
        into chain: inout DescriptorChain, from memory: Memory
    ) throws(VirtqueueError) -> Taken {
        if !leftOver.isEmpty { return try takeLeftOver(into: &chain, from: memory) }
        if available == consumed {
            let isNew = refresh()
            if let breach {
                isBreachTold = true
                throw breach
            }
            if !isNew { return .none }
        }
        if let breach { throw breach }
        let slot = SplitLayout.ring &+ 2 &* Int(consumed.rawValue & (entries &- 1))
        let head = UInt16(littleEndian: driver.region.loadRelaxed16(driver.offset &+ slot))
        do throws(VirtqueueError) {
            guard head < entries else { throw .noSuchDescriptor(head, size: Int(entries)) }
            guard !inFlight.contains(head) else { throw .alreadyInFlight(head) }
            guard try walk(head, into: &chain, memory), memory.settle(&chain) else { return .later }
        } catch {
            (breach, isBreachTold) = (error, true)
            throw error
        }
        _ = inFlight.insert(head)
        ledger.willTake(head)
        consumed.advance()
        return .chain
    }

    /// What a predecessor had taken: still in flight, and in the ledger as it is.
    @usableFromInline
    mutating func takeLeftOver<Memory: GuestMemory>(
        into chain: inout DescriptorChain, from memory: Memory
    ) throws(VirtqueueError) -> Taken {
        if let breach { throw breach }
        guard let head = leftOver.last else { return .none }
        do throws(VirtqueueError) {
            guard try walk(head, into: &chain, memory), memory.settle(&chain) else { return .later }
        } catch {
            (breach, isBreachTold) = (error, true)
            throw error
        }
        leftOver.removeLast()
        return .chain
    }

    /// Follows the chain at `head`, at most once through the table; false if its own table has no answer yet.
    @inlinable @inline(__always)
    func walk<Memory: GuestMemory>(
        _ head: UInt16, into chain: inout DescriptorChain, _ memory: Memory
    ) throws(VirtqueueError) -> Bool {
        chain.removeAll()
        var index = head
        var wroteBefore = false
        var count: UInt16 = 0
        while count < entries {
            count &+= 1
            let one = SplitDescriptor(table.region, at: table.offset &+ SplitDescriptor.byteCount &* Int(index))
            if one.flags.contains(.indirect) {
                guard takesTables else { throw .tableNotNegotiated }
                guard !one.flags.contains(.next) else { throw .tableInChain }
                guard
                    try chain.appendTable(
                        one.address, one.byteCount, ringSize: Int(entries), isPacked: false, &wroteBefore, memory)
                else { return false }
                chain.name = ChainTicket(id: head, entries: count)
                return true
            }
            try chain.admit(one.address, one.byteCount, one.flags, &wroteBefore, memory)
            if !one.flags.contains(.next) {
                chain.name = ChainTicket(id: head, entries: count)
                return true
            }
            index = one.next
            guard index < entries else { throw .noSuchDescriptor(index, size: Int(entries)) }
        }
        throw .chainTooLong(limit: Int(entries))
    }

    /// Reads the driver's index once; true if there is something new, or something wrong.
    @inlinable
    mutating func refresh() -> Bool {
        if breach != nil { return !isBreachTold }
        // Acquire: the index before the entries and the descriptors.
        let shown = VirtqueueIndex(
            UInt16(littleEndian: driver.region.loadAcquiring16(driver.offset &+ SplitLayout.index)))
        // An honest driver uses an entry again only once it saw its chain used, so what is published bounds it, and
        // what is put does not yet. An index that went backwards shows as a distance near 2^16 and fails the same test.
        let limit = entries &- (consumed - published)
        guard shown - consumed <= limit else {
            breach = .tooFarAhead(available: shown.rawValue, taken: consumed.rawValue, limit: limit)
            return true
        }
        available = shown
        return shown != consumed
    }
}
