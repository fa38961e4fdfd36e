// A driver's end of a packed ring. Entries are free again in the order in which the device gives chains back, whichever
// chains they are; names are the driver's own.

import SharedMemory
import VirtioWire

/// A driver's end of a packed ring. One thread's; pass it `inout`.
public struct PackedDriverRing: ~Copyable, DriverRing {
    @usableFromInline let ring: RingArea
    @usableFromInline let driver: RingArea
    @usableFromInline let device: RingArea
    @usableFromInline let entries: UInt16
    @usableFromInline let usesEvents: Bool
    @usableFromInline let tables: DriverTables?

    /// The next entry to be written.
    @usableFromInline var pushed: PackedPosition
    /// The next entry to be looked at for what is used.
    @usableFromInline var consumed: PackedPosition
    @usableFromInline var free: UInt16
    /// Names that are free, a stack.
    @usableFromInline var names: [UInt16]
    /// Entries offered and not shown; the first one's flags are held back until they are.
    @usableFromInline var fresh: UInt16 = 0
    @usableFromInline var heldPlace = 0
    @usableFromInline var heldFlags = DescriptorFlags()
    @usableFromInline var notes: ChainNotes
    @usableFromInline var breach: VirtqueueError?
    @usableFromInline var tally = VirtqueueCounters()

    /// Begins a ring: all of it zero.
    /// - Parameters:
    ///   - areas: a packed ring's, writable.
    ///   - features: of which `indirectDescriptors` and `eventIndex` count here.
    ///   - tables: for chains of more than one run, where `indirectDescriptors` was agreed on.
    ///   - start: where both sides begin; elsewhere than at the start in tests only, with every entry used before.
    public init(
        initialising areas: VirtqueueAreas, features: VirtioFeatures, tables: DriverTables? = nil,
        startingAt start: PackedPosition = .start
    ) {
        precondition(areas.isPacked && start.offset < areas.size, "a split ring's areas")
        ring = areas.descriptors
        driver = areas.driver
        device = areas.device
        entries = UInt16(areas.size)
        usesEvents = features.contains(.eventIndex)
        self.tables = features.contains(.indirectDescriptors) ? tables : nil
        pushed = start
        consumed = start
        free = UInt16(areas.size)
        names = (0..<UInt16(areas.size)).reversed()
        notes = ChainNotes(areas.size)
        ring.region.fill(ring.offset, count: PackedDescriptor.byteCount * areas.size)
        for entry in 0..<areas.size where (entry < start.offset) == start.wrap {
            // Used in this round, or in the one before where that counted as 1.
            PackedDescriptor.storeFlags([.available, .used], ring.region, at: ring.offset + 16 * entry)
        }
        PackedEvent.always.store(driver.region, at: driver.offset)
        PackedEvent.always.store(device.region, at: device.offset)
    }

    /// Entries of the ring.
    public var size: Int { Int(entries) }
    /// See `DriverRing.freeEntries`.
    public var freeEntries: Int { Int(free) }
    /// See `DriverRing.outstanding`.
    public var outstanding: Int { Int(entries) - names.count }
    /// See `DriverRing.fault`.
    public var fault: VirtqueueError? { breach }
    /// See `DriverRing.counters`.
    public var counters: VirtqueueCounters { tally }

    /// `driver's end of a packed ring of 128: offered to 7, round 1; reaped to 5, round 1; 126 free`.
    public var description: String {
        "driver's end of a packed ring of \(entries): offered to \(pushed); reaped to \(consumed); \(free) free"
            + (breach.map { "; broken: \($0)" } ?? "")
    }

    @inlinable @inline(__always)
    func place(_ position: PackedPosition) -> Int { ring.offset &+ PackedDescriptor.byteCount &* Int(position.offset) }
}

extension PackedDriverRing {
    /// See `DriverRing.offer`.
    @inlinable
    public mutating func offer(_ chain: borrowing DescriptorChain) -> ChainTicket? {
        let count = chain.used
        precondition(count > 0, "a chain of nothing")
        guard let name = names.last else { return nil }
        if let tables, count > 1, count <= tables.entries {
            guard free > 0 else { return nil }
            for index in 0..<count {
                // Of a table's entries only "write" means something.
                let flags: DescriptorFlags = index < chain.readable ? [] : .write
                let place = tables.place(name) &+ 16 &* index
                Self.entry(chain.room[index], 0, flags).storeBody(tables.area.region, at: place)
                PackedDescriptor.storeFlags(flags, tables.area.region, at: place)
            }
            let run = GuestRun(address: tables.address(name), byteCount: UInt32(truncatingIfNeeded: 16 &* count))
            write(Self.entry(run, name, .indirect), isFirst: true)
            return show(name, 1, chain.writableTotal)
        }
        guard count <= Int(free) else { return nil }
        for index in 0..<count {
            var flags: DescriptorFlags = index < chain.readable ? [] : .write
            if index &+ 1 < count { flags.formUnion(.next) }
            write(Self.entry(chain.room[index], name, flags), isFirst: index == 0)
        }
        return show(name, UInt16(truncatingIfNeeded: count), chain.writableTotal)
    }

    @inlinable @inline(__always)
    static func entry(_ run: GuestRun, _ name: UInt16, _ flags: DescriptorFlags) -> PackedDescriptor {
        PackedDescriptor(address: run.address, byteCount: run.byteCount, id: name, flags: flags)
    }

    /// Writes the next entry. The device looks at entries in their order, so all become visible with the first one's
    /// flags, which `publish()` stores last.
    @inlinable @inline(__always)
    mutating func write(_ entry: PackedDescriptor, isFirst: Bool) {
        let place = place(pushed)
        entry.storeBody(ring.region, at: place)
        let flags = entry.flags.union(pushed.wrap ? .available : .used)
        if isFirst, fresh == 0 {
            heldPlace = place
            heldFlags = flags
        } else {
            PackedDescriptor.storeFlags(flags, ring.region, at: place)
        }
        pushed.advance(by: 1, size: entries)
    }

    @inlinable @inline(__always)
    mutating func show(_ name: UInt16, _ count: UInt16, _ room: UInt64) -> ChainTicket {
        names.removeLast()
        free &-= count
        fresh &+= count
        notes.add(name, entries: count, room: room)
        return ChainTicket(id: name, entries: count)
    }

    /// See `DriverRing.publish`.
    @inlinable
    public mutating func publish() -> Bool {
        guard fresh > 0 else { return false }
        // Release, in storeFlags: the entries before the first one's flags.
        PackedDescriptor.storeFlags(heldFlags, ring.region, at: heldPlace)
        let count = fresh
        fresh = 0
        notes.published = notes.offered
        // The entries before the event: the device arms, then looks for chains; we show them, then look for its arming.
        // Whoever comes second sees the other.
        fullFence()
        let event = PackedEvent(device.region, at: device.offset)
        let notify = wants(event, count)
        tally.count(notify)
        return notify
    }

    /// Whether an event is among the last `count` entries. What has no meaning counts as "always".
    @inlinable @inline(__always)
    func wants(_ event: PackedEvent, _ count: UInt16) -> Bool {
        if event.flags == PackedEvent.never.flags { return false }
        guard usesEvents, event.flags == PackedEvent.atEntry(0).flags else { return true }
        return pushed.isPast(PackedPosition(rawValue: event.position), within: count, size: entries)
    }

    @inlinable @inline(__always)
    static func isUsed(_ flags: DescriptorFlags, _ wrap: Bool) -> Bool {
        flags.contains(.available) == wrap && flags.contains(.used) == wrap
    }

    /// See `DriverRing.reap`.
    @inlinable
    public mutating func reap() throws(VirtqueueError) -> UsedChain? {
        if let breach { throw breach }
        let flags = PackedDescriptor.loadFlags(ring.region, at: place(consumed))
        guard names.count < Int(entries), Self.isUsed(flags, consumed.wrap) else { return nil }
        let used = PackedDescriptor(ring.region, at: place(consumed), flags: flags)
        // Where "write" is not set the length means nothing; yet QEMU's devices never set it, and drivers read it.
        let isMeant = flags.contains(.write)
        let note: ChainNotes.Note
        do throws(VirtqueueError) {
            note = try notes.remove(UInt32(used.id), written: isMeant ? used.byteCount : 0)
        } catch {
            breach = error
            throw error
        }
        let written = UInt64(used.byteCount) <= note.room ? used.byteCount : 0
        names.append(used.id)
        free &+= note.entries
        consumed.advance(by: note.entries, size: entries)
        return UsedChain(ticket: ChainTicket(id: used.id, entries: note.entries), written: written)
    }

    /// See `DriverRing.armAndRecheck`.
    @inlinable
    public mutating func armAndRecheck() -> Bool {
        if breach != nil { return false }
        let event: PackedEvent = usesEvents ? .atEntry(consumed.rawValue) : .always
        event.store(driver.region, at: driver.offset)
        // Our arming before our look; see publish() of the device's end.
        fullFence()
        let flags = PackedDescriptor.loadFlags(ring.region, at: place(consumed))
        return names.count < Int(entries) && Self.isUsed(flags, consumed.wrap)
    }

    /// See `DriverRing.disarm`.
    @inlinable
    public mutating func disarm() { PackedEvent.never.store(driver.region, at: driver.offset) }
}
