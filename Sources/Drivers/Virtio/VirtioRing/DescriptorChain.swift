// A chain of descriptors as a value: what the driver lends the device for one request, its addresses checked and
// copied. Used again and again: its room is kept, so that taking allocates nothing.

import VirtioWire

/// What names a chain from its taking to its answer.
public struct ChainTicket: Hashable, Sendable, BitwiseCopyable {
    /// The chain's head in a split ring, the driver's name for it in a packed one.
    public let id: UInt16
    /// Entries of the ring that it takes: of a packed ring, where they are given back together.
    public let entries: UInt16

    @inlinable @inline(__always)
    init(id: UInt16, entries: UInt16) {
        self.id = id
        self.entries = entries
    }
}

/// Runs that the device reads, then runs that it writes. A driver fills one and offers it; a device takes one.
public struct DescriptorChain: Sendable, CustomStringConvertible {
    /// The runs, and behind them what longer chains left.
    @usableFromInline var room: [GuestRun] = []
    @usableFromInline var used = 0
    @usableFromInline var readable = 0
    @usableFromInline var readableTotal: UInt64 = 0
    @usableFromInline var writableTotal: UInt64 = 0
    @usableFromInline var name = ChainTicket(id: 0, entries: 0)

    /// An empty chain.
    @inlinable public init() {}

    /// What the device answers to; of a chain that was taken.
    @inlinable public var ticket: ChainTicket { name }
    /// How many runs there are.
    @inlinable public var count: Int { used }
    /// A run, by its number.
    @inlinable public subscript(index: Int) -> GuestRun {
        precondition(index < used, "a run that a chain does not have")
        return room[index]
    }
    /// All runs, none empty.
    @inlinable public var runs: ArraySlice<GuestRun> { room[..<used] }
    /// How many of them, from the first, are read.
    @inlinable public var readableCount: Int { readable }
    /// Bytes to be read.
    @inlinable public var readableBytes: UInt64 { readableTotal }
    /// Bytes to be written.
    @inlinable public var writableBytes: UInt64 { writableTotal }
    /// The runs that are read.
    @inlinable public var readableRuns: ArraySlice<GuestRun> { room[..<readable] }
    /// The runs that are written.
    @inlinable public var writableRuns: ArraySlice<GuestRun> { room[readable..<used] }

    /// Empties the chain and keeps its room.
    @inlinable @inline(__always)
    public mutating func removeAll() {
        used = 0
        readable = 0
        readableTotal = 0
        writableTotal = 0
    }

    /// Names other memory instead: what is read, then what is written.
    public mutating func replace(readable: some Sequence<GuestRun>, writable: some Sequence<GuestRun>) {
        removeAll()
        for run in readable { append(run, isWritable: false) }
        for run in writable { append(run, isWritable: true) }
    }

    /// One more run for the device to read, before all that it writes.
    @inlinable
    public mutating func appendReadable(_ run: GuestRun) {
        precondition(used == readable, "what is read comes before what is written")
        append(run, isWritable: false)
    }

    /// One more run for the device to write.
    @inlinable
    public mutating func appendWritable(_ run: GuestRun) { append(run, isWritable: true) }

    /// An empty run says nothing and is left out.
    @inlinable @inline(__always)
    mutating func append(_ run: GuestRun, isWritable: Bool) {
        guard run.byteCount > 0 else { return }
        if used < room.count { room[used] = run } else { room.append(run) }
        used &+= 1
        // Far fewer than 2^32 runs of less than 2^32 bytes: the sums cannot overflow.
        if isWritable {
            writableTotal &+= UInt64(run.byteCount)
        } else {
            readable &+= 1
            readableTotal &+= UInt64(run.byteCount)
        }
    }

    /// One descriptor's run, if it may be there.
    @inlinable @inline(__always)
    mutating func admit<Memory: GuestMemory>(
        _ address: UInt64, _ byteCount: UInt32, _ flags: DescriptorFlags, _ wroteBefore: inout Bool, _ memory: Memory
    ) throws(VirtqueueError) {
        let isWritable = flags.contains(.write)
        if isWritable { wroteBefore = true } else if wroteBefore { throw .readableAfterWritable }
        guard address <= UInt64.max &- UInt64(byteCount) else { throw .wraps(address: address, byteCount: byteCount) }
        let run = GuestRun(address: address, byteCount: byteCount)
        guard memory.admits(run, forWriting: isWritable) else {
            throw .outsideMemory(address: address, byteCount: byteCount, forWriting: isWritable)
        }
        append(run, isWritable: isWritable)
    }

    /// `chain 7: 16 bytes in 1 runs to be read, 4097 in 2 to be written`.
    public var description: String {
        "chain \(name.id): \(readableTotal) bytes in \(readable) runs to be read, "
            + "\(writableTotal) in \(used - readable) to be written"
    }
}
