// A virtqueue as a driver has it: the same verbs for split and packed rings, mirrored to the device's.
//
//     chain.removeAll(); chain.appendReadable(…); chain.appendWritable(…)
//     let ticket = ring.offer(chain)                                     // nil: no room
//     if ring.publish() { kick() }
//     while let used = try ring.reap() { … }
//     if !ring.armAndRecheck() { sleep() }
//
// The device is another process, and is believed as little as a driver is.

/// A chain that the device gave back.
public struct UsedChain: Equatable, Sendable, BitwiseCopyable {
    /// What `offer` said.
    public let ticket: ChainTicket
    /// Bytes that were written, at most as many as there was room for.
    public let written: UInt32

    @inlinable
    init(ticket: ChainTicket, written: UInt32) {
        self.ticket = ticket
        self.written = written
    }
}

/// Memory for tables of descriptors, one for each entry of the ring: with them a chain takes one entry, however long.
public struct DriverTables: Sendable {
    @usableFromInline let area: RingArea
    @usableFromInline let address: UInt64
    @usableFromInline let entries: Int

    /// - Parameters:
    ///   - area: 16 bytes for each entry of each table, aligned to as many.
    ///   - address: where the device finds it.
    ///   - entries: of each table.
    ///   - size: entries of the ring.
    public init(_ area: RingArea, at address: UInt64, entries: Int, ringSize size: Int) {
        precondition(entries > 0 && area.offset % 16 == 0, "tables of descriptors")
        precondition(area.offset + 16 * entries * size <= area.region.byteCount, "tables that do not fit")
        self.area = area
        self.address = address
        self.entries = entries
    }

    @inlinable @inline(__always)
    func place(_ table: UInt16) -> Int { area.offset &+ 16 &* entries &* Int(table) }
    @inlinable @inline(__always)
    func address(_ table: UInt16) -> UInt64 { address &+ UInt64(16 &* entries) &* UInt64(table) }
}

/// A driver's end of a ring. One thread's; pass it `inout`.
public protocol DriverRing: ~Copyable {
    /// Entries of the ring.
    var size: Int { get }
    /// Entries that are free.
    var freeEntries: Int { get }
    /// Chains offered and not reaped.
    var outstanding: Int { get }
    /// Why this ring is broken; nothing is reaped from it any more.
    var fault: VirtqueueError? { get }
    /// Kicks that were wanted, and that were not.
    var counters: VirtqueueCounters { get }

    /// Writes a chain of at least one run into the ring; nil if there is no room for it. The device sees it after
    /// `publish()`.
    mutating func offer(_ chain: borrowing DescriptorChain) -> ChainTicket?

    /// Shows the device what was offered; true if it must be kicked.
    mutating func publish() -> Bool

    /// Takes the next used chain; nil if there is none yet.
    /// - Throws: what the device did wrong; then and ever after.
    mutating func reap() throws(VirtqueueError) -> UsedChain?

    /// Asks to be signalled of the next used chain, then looks once more: true if it is there already and no signal can
    /// be relied on. False for ever on a broken ring.
    mutating func armAndRecheck() -> Bool

    /// Asks for no signals as long as the driver is awake.
    mutating func disarm()
}

/// What a driver knows of each chain that is out: its own notes, for the device can write the shared ones.
@usableFromInline
struct ChainNotes: Sendable {
    @usableFromInline
    struct Note: Sendable, BitwiseCopyable {
        /// Bytes that the device may write.
        @usableFromInline var room: UInt64 = 0
        /// Which chain it was since the beginning: those after the last publication are nobody's to give back.
        @usableFromInline var number: UInt32 = 0
        /// Entries of the ring that it takes; 0: it is not out.
        @usableFromInline var entries: UInt16 = 0

        @inlinable init(room: UInt64 = 0, number: UInt32 = 0, entries: UInt16 = 0) {
            self.room = room
            self.number = number
            self.entries = entries
        }
    }

    @usableFromInline var notes: [Note]
    @usableFromInline var offered: UInt32 = 0
    @usableFromInline var published: UInt32 = 0

    @usableFromInline init(_ size: Int) { notes = Array(repeating: Note(), count: size) }

    @inlinable @inline(__always)
    mutating func add(_ id: UInt16, entries: UInt16, room: UInt64) {
        notes[Int(id)] = Note(room: room, number: offered, entries: entries)
        offered &+= 1
    }

    /// Forgets a chain that the device says is used; what was known of it.
    @inlinable @inline(__always)
    mutating func remove(_ id: UInt32, written: UInt32) throws(VirtqueueError) -> Note {
        guard id < UInt32(notes.count) else { throw .notInFlight(id) }
        let note = notes[Int(id)]
        // Fewer than 2^31 chains are out, so the sign of the distance says which came first.
        guard note.entries > 0, Int32(bitPattern: note.number &- published) < 0 else { throw .notInFlight(id) }
        guard UInt64(written) <= note.room else { throw .writtenTooMuch(written, room: note.room) }
        notes[Int(id)].entries = 0
        return note
    }
}
