// A driver's end of a split ring. Which entries are free and which belong together is kept in private memory; the table
// is only written.

import SharedMemory
import VirtioWire

/// A driver's end of a split ring. One thread's; pass it `inout`.
public struct SplitDriverRing: ~Copyable, DriverRing {
    @usableFromInline let table: RingArea
    @usableFromInline let driver: RingArea
    @usableFromInline let device: RingArea
    @usableFromInline let entries: UInt16
    @usableFromInline let usesEvents: Bool
    @usableFromInline let tables: DriverTables?

    /// Chains offered, published or not.
    @usableFromInline var pushed: VirtqueueIndex
    /// Chains the device may see.
    @usableFromInline var published: VirtqueueIndex
    /// Used chains taken (`last_used_idx`).
    @usableFromInline var consumed: VirtqueueIndex
    /// The device's index as last read and found credible.
    @usableFromInline var available: VirtqueueIndex
    /// The entry after each: of its chain, or in the list of those that are free.
    @usableFromInline var after: [UInt16]
    @usableFromInline var firstFree: UInt16 = 0
    @usableFromInline var free: UInt16
    @usableFromInline var notes: ChainNotes
    @usableFromInline var breach: VirtqueueError?
    @usableFromInline var tally = VirtqueueCounters()

    /// Begins a ring: all of it zero, but for indices that begin elsewhere in tests of wrap-around.
    /// - Parameters:
    ///   - areas: a split ring's, writable.
    ///   - features: of which `indirectDescriptors` and `eventIndex` count here.
    ///   - tables: for chains of more than one run, where `indirectDescriptors` was agreed on.
    public init(
        initialising areas: VirtqueueAreas, features: VirtioFeatures, tables: DriverTables? = nil,
        startingAt start: UInt16 = 0
    ) {
        precondition(!areas.isPacked, "a packed ring's areas")
        table = areas.descriptors
        driver = areas.driver
        device = areas.device
        entries = UInt16(areas.size)
        usesEvents = features.contains(.eventIndex)
        self.tables = features.contains(.indirectDescriptors) ? tables : nil
        pushed = VirtqueueIndex(start)
        published = pushed
        consumed = pushed
        available = pushed
        after = (1...UInt16(areas.size)).map { $0 }
        free = UInt16(areas.size)
        notes = ChainNotes(areas.size)
        table.region.fill(table.offset, count: SplitLayout.descriptorBytes(areas.size))
        driver.region.fill(driver.offset, count: SplitLayout.driverBytes(areas.size, eventIndex: usesEvents))
        device.region.fill(device.offset, count: SplitLayout.deviceBytes(areas.size, eventIndex: usesEvents))
        if usesEvents {
            driver.region.storeRelaxed16(start.littleEndian, at: driver.offset + SplitLayout.usedEvent(areas.size))
            device.region.storeRelaxed16(start.littleEndian, at: device.offset + SplitLayout.availableEvent(areas.size))
        }
        device.region.storeRelaxed16(start.littleEndian, at: device.offset + SplitLayout.index)
        // Whoever learns of the ring must find it whole.
        driver.region.storeReleasing16(start.littleEndian, at: driver.offset + SplitLayout.index)
    }

    /// Entries of the ring.
    public var size: Int { Int(entries) }
    /// See `DriverRing.freeEntries`.
    public var freeEntries: Int { Int(free) }
    /// See `DriverRing.outstanding`.
    public var outstanding: Int { Int(pushed - consumed) }
    /// See `DriverRing.fault`.
    public var fault: VirtqueueError? { breach }
    /// See `DriverRing.counters`.
    public var counters: VirtqueueCounters { tally }

    /// `driver's end of a split ring of 128: 7 offered, 7 published, 5 reaped`.
    public var description: String {
        "driver's end of a split ring of \(entries): \(pushed) offered, \(published) published, \(consumed) reaped"
            + (breach.map { "; broken: \($0)" } ?? "")
    }
}

extension SplitDriverRing {
    /// See `DriverRing.offer`.
    @inlinable
    public mutating func offer(_ chain: borrowing DescriptorChain) -> ChainTicket? {
        let count = chain.used
        precondition(count > 0, "a chain of nothing")
        let head = firstFree
        if let tables, count > 1, count <= tables.entries {
            guard free > 0 else { return nil }
            let place = tables.place(head)
            for index in 0..<count {
                Self.entry(chain, index, next: UInt16(truncatingIfNeeded: index &+ 1)).store(
                    tables.area.region, at: place &+ 16 &* index)
            }
            SplitDescriptor(
                address: tables.address(head), byteCount: UInt32(truncatingIfNeeded: 16 &* count), flags: .indirect
            ).store(table.region, at: table.offset &+ 16 &* Int(head))
            firstFree = after[Int(head)]
            return show(head, 1, chain.writableTotal)
        }
        guard count <= Int(free) else { return nil }
        var slot = head
        for index in 0..<count {
            let next = after[Int(slot)]
            Self.entry(chain, index, next: next).store(table.region, at: table.offset &+ 16 &* Int(slot))
            slot = next
        }
        firstFree = slot
        return show(head, UInt16(truncatingIfNeeded: count), chain.writableTotal)
    }

    @inlinable @inline(__always)
    static func entry(_ chain: borrowing DescriptorChain, _ index: Int, next: UInt16) -> SplitDescriptor {
        var flags: DescriptorFlags = index < chain.readable ? [] : .write
        let goesOn = index &+ 1 < chain.used
        if goesOn { flags.formUnion(.next) }
        let run = chain.room[index]
        return SplitDescriptor(
            address: run.address, byteCount: run.byteCount, flags: flags, next: goesOn ? next : 0)
    }

    @inlinable @inline(__always)
    mutating func show(_ head: UInt16, _ count: UInt16, _ room: UInt64) -> ChainTicket {
        free &-= count
        notes.add(head, entries: count, room: room)
        let slot = SplitLayout.ring &+ 2 &* Int(pushed.rawValue & (entries &- 1))
        driver.region.storeRelaxed16(head.littleEndian, at: driver.offset &+ slot)
        pushed.advance()
        return ChainTicket(id: head, entries: count)
    }

    /// See `DriverRing.publish`.
    @inlinable
    public mutating func publish() -> Bool {
        let fresh = pushed - published
        guard fresh > 0 else { return false }
        published = pushed
        notes.published = notes.offered
        // Release: the descriptors and the entries before the index.
        driver.region.storeReleasing16(pushed.rawValue.littleEndian, at: driver.offset &+ SplitLayout.index)
        // The index before the event: the device arms, then looks for chains; we show them, then look for its arming.
        // Whoever comes second sees the other.
        fullFence()
        let notify: Bool
        if usesEvents {
            let place = device.offset &+ SplitLayout.availableEvent(Int(entries))
            let event = VirtqueueIndex(UInt16(littleEndian: device.region.loadRelaxed16(place)))
            notify = pushed.isPast(event, within: fresh)
        } else {
            let flags = UInt16(littleEndian: device.region.loadRelaxed16(device.offset &+ SplitLayout.flags))
            notify = flags & SplitLayout.noKick == 0
        }
        tally.count(notify)
        return notify
    }

    /// See `DriverRing.reap`.
    @inlinable
    public mutating func reap() throws(VirtqueueError) -> UsedChain? {
        if available == consumed {
            let isNew = refresh()
            if let breach { throw breach }
            if !isNew { return nil }
        }
        if let breach { throw breach }
        let slot = SplitLayout.ring &+ UsedElement.byteCount &* Int(consumed.rawValue & (entries &- 1))
        let used = UsedElement(device.region, at: device.offset &+ slot)
        let count: UInt16
        do throws(VirtqueueError) {
            count = try notes.remove(used.id, written: used.written).entries
        } catch {
            breach = error
            throw error
        }
        let head = UInt16(truncatingIfNeeded: used.id)
        var last = head
        for _ in 1..<count { last = after[Int(last)] }
        after[Int(last)] = firstFree
        firstFree = head
        free &+= count
        consumed.advance()
        return UsedChain(ticket: ChainTicket(id: head, entries: count), written: used.written)
    }

    /// See `DriverRing.armAndRecheck`.
    @inlinable
    public mutating func armAndRecheck() -> Bool {
        if breach != nil { return false }
        if available != consumed { return true }
        if usesEvents {
            let place = driver.offset &+ SplitLayout.usedEvent(Int(entries))
            driver.region.storeRelaxed16(consumed.rawValue.littleEndian, at: place)
        } else {
            driver.region.storeRelaxed16(0, at: driver.offset &+ SplitLayout.flags)
        }
        // Our arming before our look; see publish() of the device's end.
        fullFence()
        return refresh()
    }

    /// See `DriverRing.disarm`.
    @inlinable
    public mutating func disarm() {
        if usesEvents { return }
        driver.region.storeRelaxed16(SplitLayout.noSignal.littleEndian, at: driver.offset &+ SplitLayout.flags)
    }

    /// Reads the device's index once; true if there is something new, or something wrong.
    @inlinable
    mutating func refresh() -> Bool {
        if breach != nil { return false }
        // Acquire: the index before the entries, and before what was written into the chains.
        let shown = VirtqueueIndex(
            UInt16(littleEndian: device.region.loadAcquiring16(device.offset &+ SplitLayout.index)))
        let limit = published - consumed
        guard shown - consumed <= limit else {
            breach = .tooManyUsed(used: shown.rawValue, taken: consumed.rawValue, limit: limit)
            return true
        }
        available = shown
        return shown != consumed
    }
}
