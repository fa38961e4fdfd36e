// Used chains of a split ring, and who is woken when.

import SharedMemory
import VirtioWire

extension SplitDeviceRing {
    /// See `DeviceRing.put`.
    @inlinable @inline(__always)
    public mutating func put(_ ticket: ChainTicket, written: UInt32) {
        let wasOut = inFlight.remove(ticket.id)
        precondition(wasOut, "a chain is put back that was not taken")
        ledger.willAnswer(ticket.id)
        let slot = SplitLayout.ring &+ UsedElement.byteCount &* Int(pushed.rawValue & (entries &- 1))
        UsedElement(id: UInt32(ticket.id), written: written).store(device.region, at: device.offset &+ slot)
        pushed.advance()
    }

    /// See `DeviceRing.publish`.
    @inlinable
    public mutating func publish() -> Bool {
        let fresh = pushed - published
        guard fresh > 0 || owesSignal else { return false }
        if fresh > 0 {
            let first = published
            published = pushed
            // Release: the entries, and what was written into the chains, before the index.
            device.region.storeReleasing16(pushed.rawValue.littleEndian, at: device.offset &+ SplitLayout.index)
            ledger.didPublish(pushed)
            if log != nil { markUsed(from: first, fresh) }
        }
        let notify = needsSignal(fresh)
        tally.count(notify)
        return notify
    }

    /// Whether the driver wants to hear of the last `fresh` used chains.
    @inlinable @inline(__always)
    mutating func needsSignal(_ fresh: UInt16) -> Bool {
        // The index before the event: the driver arms, then looks for used chains; we show them, then look for its
        // arming. Whoever comes second sees the other.
        fullFence()
        if owesSignal {
            owesSignal = false
            return true
        }
        guard usesEvents else {
            let flags = UInt16(littleEndian: driver.region.loadRelaxed16(driver.offset &+ SplitLayout.flags))
            return flags & SplitLayout.noSignal == 0
        }
        let place = driver.offset &+ SplitLayout.usedEvent(Int(entries))
        let event = VirtqueueIndex(UInt16(littleEndian: driver.region.loadRelaxed16(place)))
        return pushed.isPast(event, within: fresh)
    }

    /// See `DeviceRing.armAndRecheck`.
    @inlinable
    public mutating func armAndRecheck() -> Bool {
        if breach != nil { return !isBreachTold }
        if available != consumed || !leftOver.isEmpty { return true }
        if usesEvents {
            let place = device.offset &+ SplitLayout.availableEvent(Int(entries))
            device.region.storeRelaxed16(consumed.rawValue.littleEndian, at: place)
        } else {
            device.region.storeRelaxed16(0, at: device.offset &+ SplitLayout.flags)
        }
        if log != nil { markWish() }
        // Our arming before our look; see publish() of the driver's end.
        fullFence()
        return refresh()
    }

    /// See `DeviceRing.disarm`. With events there is nothing to take back: the one that was asked for lies behind.
    @inlinable
    public mutating func disarm() {
        if usesEvents { return }
        device.region.storeRelaxed16(SplitLayout.noKick.littleEndian, at: device.offset &+ SplitLayout.flags)
        if log != nil { markWish() }
    }

    /// See `DeviceRing.setLog`.
    public mutating func setLog(_ log: RingLog?) {
        self.log = log
        log?.markDevice(0, SplitLayout.deviceBytes(Int(entries), eventIndex: usesEvents))
    }

    @usableFromInline @inline(never)
    func markUsed(from first: VirtqueueIndex, _ count: UInt16) {
        log?.markUsed(Int(first.rawValue & (entries &- 1)), Int(count), of: Int(entries))
    }

    /// Marks where the device says when it wants a kick.
    @usableFromInline @inline(never)
    func markWish() {
        log?.markDevice(usesEvents ? SplitLayout.availableEvent(Int(entries)) : SplitLayout.flags, 2)
    }
}
