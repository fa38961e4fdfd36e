// Used entries of a packed ring, and who is woken when.

import SharedMemory
import VirtioWire

extension PackedDeviceRing {
    /// See `DeviceRing.put`. The driver looks at entries in their order, so all of a batch become visible with the
    /// first one's flags, which `publish()` stores last.
    @inlinable @inline(__always)
    public mutating func put(_ ticket: ChainTicket, written: UInt32) {
        let wasOut = inFlight.remove(ticket.id)
        precondition(wasOut, "a chain is put back that was not taken")
        ledger.willAnswer(ticket)
        let place = place(pushed)
        PackedDescriptor.storeAnswer(id: ticket.id, written: written, ring.region, at: place)
        // Whether the length means something is what "write" says in a used entry.
        var flags: DescriptorFlags = written > 0 ? .write : []
        if pushed.wrap { flags.formUnion([.available, .used]) }
        if fresh == 0 {
            heldPlace = place
            heldFlags = flags
        } else {
            PackedDescriptor.storeFlags(flags, ring.region, at: place)
        }
        fresh &+= ticket.entries
        pushed.advance(by: ticket.entries, size: entries)
    }

    /// See `DeviceRing.publish`.
    @inlinable
    public mutating func publish() -> Bool {
        guard fresh > 0 || owesSignal else { return false }
        let count = fresh
        if count > 0 {
            ledger.willPublish(pushed)
            // Release, in storeFlags: the entries, and what was written into the chains, before the first one's flags.
            PackedDescriptor.storeFlags(heldFlags, ring.region, at: heldPlace)
            ledger.didPublish()
            if log != nil { markShown() }
            outstanding &-= count
            fresh = 0
        }
        // The entries before the event: the driver arms, then looks for used entries; we show them, then look for its
        // arming. Whoever comes second sees the other.
        fullFence()
        let event = PackedEvent(driver.region, at: driver.offset)
        let notify = owesSignal || wants(event, count)
        owesSignal = false
        tally.count(notify)
        return notify
    }

    /// Whether an event is among the last `count` entries. What has no meaning counts as "always": at worst a driver is
    /// woken for nothing.
    @inlinable @inline(__always)
    func wants(_ event: PackedEvent, _ count: UInt16) -> Bool {
        if event.flags == PackedEvent.never.flags { return false }
        guard usesEvents, event.flags == PackedEvent.atEntry(0).flags else { return true }
        return pushed.isPast(PackedPosition(rawValue: event.position), within: count, size: entries)
    }

    /// See `DeviceRing.armAndRecheck`.
    @inlinable
    public mutating func armAndRecheck() -> Bool {
        if breach != nil { return false }
        if !leftOver.isEmpty { return true }
        let event: PackedEvent = usesEvents ? .atEntry(consumed.rawValue) : .always
        event.store(device.region, at: device.offset)
        if log != nil { markWish() }
        // Our arming before our look; see publish() of the driver's end.
        fullFence()
        return hasChains()
    }

    /// See `DeviceRing.disarm`.
    @inlinable
    public mutating func disarm() {
        PackedEvent.never.store(device.region, at: device.offset)
        if log != nil { markWish() }
    }

    /// See `DeviceRing.setLog`.
    public mutating func setLog(_ log: RingLog?) {
        self.log = log
        log?.markEntries(0, Int(entries), of: Int(entries))
        log?.markDevice(0, PackedEvent.byteCount)
    }

    /// Marks the entries that are shown now, those of a batch from the one whose flags were held back on.
    @usableFromInline @inline(never)
    func markShown() {
        log?.markEntries((heldPlace - ring.offset) / PackedDescriptor.byteCount, Int(fresh), of: Int(entries))
    }

    /// Marks where the device says when it wants a kick.
    @usableFromInline @inline(never)
    func markWish() { log?.markDevice(0, PackedEvent.byteCount) }
}
