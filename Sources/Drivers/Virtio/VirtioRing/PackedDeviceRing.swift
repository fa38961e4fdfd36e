// A device's end of a packed ring. Both sides write the one ring: an entry is the device's while its "available" flag
// is as the driver's wrap counter and its "used" flag is not, and the driver's again when both are as the device's.

import SharedMemory
import VirtioWire

/// A device's end of a packed ring. One thread's; pass it `inout`.
public struct PackedDeviceRing<Ledger: PackedCrashLedger>: ~Copyable, DeviceRing {
    @usableFromInline let ring: RingArea
    @usableFromInline let driver: RingArea
    @usableFromInline let device: RingArea
    @usableFromInline let entries: UInt16
    @usableFromInline let usesEvents: Bool
    @usableFromInline let takesTables: Bool

    /// The next entry to be taken.
    @usableFromInline var consumed: PackedPosition
    /// The next entry to be written as used.
    @usableFromInline var pushed: PackedPosition
    /// Entries taken whose chains the driver does not see as used.
    @usableFromInline var outstanding: UInt16 = 0
    /// Entries of the chains that were put and are not shown; the first one's flags are held back until they are.
    @usableFromInline var fresh: UInt16 = 0
    @usableFromInline var heldPlace = 0
    @usableFromInline var heldFlags = DescriptorFlags()
    /// By the driver's names, which may be any numbers.
    @usableFromInline var inFlight = IdentitySet()
    @usableFromInline var breach: VirtqueueError?
    @usableFromInline var log: RingLog?
    /// What a predecessor had taken, youngest first; given out before anything new.
    @usableFromInline var leftOver: [PackedInflightRecovery.Chain] = []
    /// A predecessor may have published and died before it signalled.
    @usableFromInline var owesSignal = false
    @usableFromInline var ledger: Ledger
    @usableFromInline var tally = VirtqueueCounters()

    /// Begins, or goes on where another end stopped with nothing unanswered.
    /// - Parameters:
    ///   - areas: a packed ring's.
    ///   - features: of which `indirectDescriptors` and `eventIndex` count here.
    ///   - base: what `base` of the other end was. An upper half of 0 means the same as the lower one, for a front end
    ///     may know that half only (DPDK's).
    /// - Throws: `VirtqueueError.notAdoptable` if that lies outside the ring.
    public init(
        attaching areas: VirtqueueAreas, features: VirtioFeatures, startingAt base: UInt32 = UInt32(PackedPosition.start.rawValue),
        ledger: Ledger
    ) throws(VirtqueueError) {
        precondition(areas.isPacked, "a split ring's areas")
        consumed = PackedPosition(rawValue: UInt16(truncatingIfNeeded: base))
        let upper = UInt16(truncatingIfNeeded: base >> 16)
        pushed = upper == 0 ? consumed : PackedPosition(rawValue: upper)
        guard consumed.offset < areas.size, pushed == consumed else {
            throw .notAdoptable(available: consumed.rawValue, used: pushed.rawValue, size: areas.size)
        }
        ring = areas.descriptors
        driver = areas.driver
        device = areas.device
        entries = UInt16(areas.size)
        usesEvents = features.contains(.eventIndex)
        takesTables = features.contains(.indirectDescriptors)
        self.ledger = ledger
    }

    /// Takes over a ring whose device was killed: what it had taken and not answered comes first, oldest first, its
    /// descriptors looked at anew. The driver is signalled at the first `publish()` whatever it asked for.
    /// - Throws: `VirtqueueError.notAdoptable` for a recovery of another ring.
    public init(
        resuming areas: VirtqueueAreas, features: VirtioFeatures, _ recovery: PackedInflightRecovery, ledger: Ledger
    ) throws(VirtqueueError) {
        let count = recovery.entries
        guard recovery.size == areas.size, count <= areas.size else {
            throw .notAdoptable(available: UInt16(clamping: count), used: recovery.used.rawValue, size: areas.size)
        }
        // An upper half of 0 means the same as the lower one: offset 0 in the round that counts as 0 is said twice.
        let base = UInt32(recovery.used.rawValue)
        try self.init(attaching: areas, features: features, startingAt: base | base << 16, ledger: ledger)
        outstanding = UInt16(count)
        consumed.advance(by: UInt16(count), size: entries)
        for chain in recovery.left { _ = inFlight.insert(chain.id) }
        leftOver = recovery.left.reversed()
        owesSignal = true
    }

    /// Entries of the ring.
    public var size: Int { Int(entries) }
    /// See `DeviceRing.fault`.
    public var fault: VirtqueueError? { breach }
    /// See `DeviceRing.unanswered`; what a predecessor left counts.
    public var unanswered: Int { inFlight.count }
    /// See `DeviceRing.counters`.
    public var counters: VirtqueueCounters { tally }
    /// Where to take, and in the upper half where to answer.
    public var base: UInt32 { UInt32(consumed.rawValue) | UInt32(pushed.rawValue) << 16 }

    /// `packed ring of 128: taken to 7, round 1; put to 5, round 1; 2 entries out`.
    public var description: String {
        "packed ring of \(entries): taken to \(consumed); put to \(pushed); \(outstanding) entries out"
            + (breach.map { "; broken: \($0)" } ?? "")
    }

    @inlinable @inline(__always)
    func place(_ position: PackedPosition) -> Int { ring.offset &+ PackedDescriptor.byteCount &* Int(position.offset) }

    /// Whether an entry is the device's, by its flags.
    @inlinable @inline(__always)
    static func isAvailable(_ flags: DescriptorFlags, _ wrap: Bool) -> Bool {
        flags.contains(.available) == wrap && flags.contains(.used) != wrap
    }
}

extension PackedDeviceRing where Ledger == NoLedger {
    /// The same without a ledger.
    public init(
        attaching areas: VirtqueueAreas, features: VirtioFeatures, startingAt base: UInt32 = UInt32(PackedPosition.start.rawValue)
    ) throws(VirtqueueError) {
        try self.init(attaching: areas, features: features, startingAt: base, ledger: NoLedger())
    }
}
