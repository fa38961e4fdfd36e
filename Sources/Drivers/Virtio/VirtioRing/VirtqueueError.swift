// What can be wrong with a virtqueue: always the other side's doing, or that of whoever set it up from the other side's
// words. A broken queue stays broken; its owner stops it and says so, and the device's other queues go on.

/// A peer that breaks the rules of a virtqueue.
public enum VirtqueueError: Error, Equatable, Sendable, CustomStringConvertible {
    // MARK: Setting a queue up

    /// A number of entries that a ring of this kind cannot have.
    case size(Int, packed: Bool)
    /// An area that begins where it may not.
    case misaligned(address: UInt64, alignment: Int)
    /// An area that is not there as a whole, side by side, and writable.
    case unreachable(address: UInt64, byteCount: Int)
    /// Indices to go on from that cannot be.
    case notAdoptable(available: UInt16, used: UInt16, size: Int)
    /// In-flight memory of another queue, or of another layout's.
    case foreignInflight(version: UInt16, size: UInt16, wanted: Int)

    // MARK: Chains

    /// The driver's index is further than the ring allows, or went backwards.
    case tooFarAhead(available: UInt16, taken: UInt16, limit: UInt16)
    /// A head or a next descriptor that the table does not have.
    case noSuchDescriptor(UInt16, size: Int)
    /// A chain that is made available again before it is used.
    case alreadyInFlight(UInt16)
    /// More descriptors than there can be: a circle, for one.
    case chainTooLong(limit: Int)
    /// A table that was not agreed on.
    case tableNotNegotiated
    /// A table whose length is no whole number of entries, or none.
    case tableLength(UInt32)
    /// A table of more entries than a chain may have.
    case tableTooLong(entries: UInt32, limit: Int)
    /// A table in a table.
    case tableInTable
    /// A table after which the chain goes on, or, packed, in a chain with others.
    case tableInChain
    /// Something to be read after something to be written.
    case readableAfterWritable
    /// Bytes past the end of all addresses.
    case wraps(address: UInt64, byteCount: UInt32)
    /// Bytes that are not the driver's memory, or not to be written.
    case outsideMemory(address: UInt64, byteCount: UInt32, forWriting: Bool)

    // MARK: What a device says is used

    /// More chains used than there are.
    case tooManyUsed(used: UInt16, taken: UInt16, limit: UInt16)
    /// A chain used that the device does not have.
    case notInFlight(UInt32)
    /// More bytes written than there was room for.
    case writtenTooMuch(UInt32, room: UInt64)

    /// `the driver's index 70 is 66 past 4; at most 32 can be`.
    public var description: String {
        switch self {
        case .size(let size, let packed): "a \(packed ? "packed" : "split") ring cannot have \(size) entries"
        case .misaligned(let address, let alignment): "an area at \(hex(address)), which is no multiple of \(alignment)"
        case .unreachable(let address, let count): "an area of \(count) bytes at \(hex(address)), which is not there as a whole"
        case .notAdoptable(let available, let used, let size):
            "cannot go on from \(available) available and \(used) used in a ring of \(size)"
        case .foreignInflight(let version, let size, let wanted):
            "in-flight memory of version \(version) for \(size) entries; version 1 for \(wanted) is wanted"
        case .tooFarAhead(let available, let taken, let limit):
            "the driver's index \(available) is \(available &- taken) past \(taken); at most \(limit) can be"
        case .noSuchDescriptor(let index, let size): "descriptor \(index) of \(size)"
        case .alreadyInFlight(let id): "chain \(id) is made available again before it is used"
        case .chainTooLong(let limit): "a chain of more than \(limit) descriptors"
        case .tableNotNegotiated: "a table of descriptors, which was not agreed on"
        case .tableLength(let count): "a table of \(count) bytes, which is no whole number of descriptors"
        case .tableTooLong(let entries, let limit): "a table of \(entries) descriptors; at most \(limit) can be"
        case .tableInTable: "a table in a table"
        case .tableInChain: "a table of descriptors among others"
        case .readableAfterWritable: "a descriptor to be read after one to be written"
        case .wraps(let address, let count): "\(count) bytes at \(hex(address)) pass the end of all addresses"
        case .outsideMemory(let address, let count, let forWriting):
            "\(count) bytes at \(hex(address)) are not memory\(forWriting ? " to be written" : "")"
        case .tooManyUsed(let used, let taken, let limit):
            "the device's index \(used) is \(used &- taken) past \(taken); at most \(limit) can be"
        case .notInFlight(let id): "chain \(id) is used, which the device does not have"
        case .writtenTooMuch(let count, let room): "\(count) bytes written, where there was room for \(room)"
        }
    }

    private func hex(_ address: UInt64) -> String { "0x" + String(address, radix: 16) }
}
