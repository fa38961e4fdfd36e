// A device's end of a split ring. Of shared memory it reads the table, the driver's ring and the driver's event; it
// writes the used ring and its own event. What the driver writes into ours changes nothing here, for every decision
// rests on private indices.

import SharedMemory
import VirtioWire

/// A device's end of a split ring. One thread's; pass it `inout`.
public struct SplitDeviceRing<Ledger: CrashLedger>: ~Copyable, DeviceRing {
    @usableFromInline let table: RingArea
    @usableFromInline let driver: RingArea
    @usableFromInline let device: RingArea
    @usableFromInline let entries: UInt16
    @usableFromInline let usesEvents: Bool
    @usableFromInline let takesTables: Bool

    /// Chains taken (`last_avail_idx`).
    @usableFromInline var consumed: VirtqueueIndex
    /// The driver's index as last read and found credible; read again only when all up to it is consumed.
    @usableFromInline var available: VirtqueueIndex
    /// Chains put, published or not.
    @usableFromInline var pushed: VirtqueueIndex
    /// Chains the driver may see as used: our own copy, for it can write the shared one.
    @usableFromInline var published: VirtqueueIndex
    @usableFromInline var inFlight: IdentitySet
    /// What a predecessor had taken, youngest first; given out before anything new.
    @usableFromInline var leftOver: [UInt16] = []
    /// A predecessor may have published and died before it signalled.
    @usableFromInline var owesSignal = false
    @usableFromInline var breach: VirtqueueError?
    /// Whether `take` has said so.
    @usableFromInline var isBreachTold = false
    @usableFromInline var tally = VirtqueueCounters()
    @usableFromInline var ledger: Ledger
    @usableFromInline var log: RingLog?

    /// Begins, or goes on where another end stopped with nothing unanswered.
    /// - Parameters:
    ///   - areas: a split ring's.
    ///   - features: of which `indirectDescriptors` and `eventIndex` count here.
    ///   - base: chains that were taken; what `base` of the other end was.
    ///   - used: chains that were shown as used; the same, unless somebody else's are still out.
    /// - Throws: `VirtqueueError.notAdoptable` if more would be out than the ring has entries.
    public init(
        attaching areas: VirtqueueAreas, features: VirtioFeatures, startingAt base: UInt16 = 0, used: UInt16? = nil,
        ledger: Ledger
    ) throws(VirtqueueError) {
        precondition(!areas.isPacked, "a packed ring's areas")
        let shown = used ?? base
        guard base &- shown <= UInt16(areas.size) else { throw .notAdoptable(available: base, used: shown, size: areas.size) }
        table = areas.descriptors
        driver = areas.driver
        device = areas.device
        entries = UInt16(areas.size)
        usesEvents = features.contains(.eventIndex)
        takesTables = features.contains(.indirectDescriptors)
        consumed = VirtqueueIndex(base)
        available = consumed
        pushed = VirtqueueIndex(shown)
        published = pushed
        inFlight = IdentitySet()
        self.ledger = ledger
    }

    /// Takes over a ring whose device was killed: what it had taken and not answered comes first, oldest first, its
    /// descriptors looked at anew. The driver is signalled at the first `publish()` whatever it asked for.
    /// - Parameters:
    ///   - heads: chains that were taken and not answered, oldest first, each once.
    ///   - used: the ring's used index as it was left.
    /// - Throws: `VirtqueueError.notAdoptable` if there are more heads than entries, or heads that cannot be.
    public init(
        resuming areas: VirtqueueAreas, features: VirtioFeatures, unanswered heads: [UInt16], used: UInt16, ledger: Ledger
    ) throws(VirtqueueError) {
        var out = IdentitySet()
        for head in heads {
            guard head < areas.size, out.insert(head) else {
                throw .notAdoptable(available: head, used: used, size: areas.size)
            }
        }
        try self.init(
            attaching: areas, features: features, startingAt: used &+ UInt16(heads.count), used: used, ledger: ledger)
        inFlight = out
        leftOver = heads.reversed()
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
    /// The next chain's index.
    public var base: UInt32 { UInt32(consumed.rawValue) }

    /// `split ring of 128: 7 taken, 5 put, 5 published`.
    public var description: String {
        "split ring of \(entries): \(consumed) taken, \(pushed) put, \(published) published"
            + (breach.map { "; broken: \($0)" } ?? "")
    }
}

extension SplitDeviceRing where Ledger == NoLedger {
    /// The same without a ledger.
    public init(
        attaching areas: VirtqueueAreas, features: VirtioFeatures, startingAt base: UInt16 = 0, used: UInt16? = nil
    ) throws(VirtqueueError) {
        try self.init(attaching: areas, features: features, startingAt: base, used: used, ledger: NoLedger())
    }
}
