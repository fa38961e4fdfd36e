// The device's end of its vectors: all that a device, however hostile, can do to the table.

/// What a device raises its interrupts with. Any thread.
public final class InterruptSource: Sendable, InterruptMessagePort {
    /// Whose it is.
    public let device: String
    private let table: InterruptTable
    private let base: UInt32
    /// The device's own: there is no way from here to another's.
    private let vectors: [InterruptVector]

    init(table: InterruptTable, device: String, base: Int, _ vectors: [InterruptVector]) {
        self.table = table
        self.device = device
        self.base = UInt32(base)
        self.vectors = vectors
    }

    /// Raises a vector by its number; false, and a fault recorded, if the device has none of that number or has been
    /// detached. A few nanoseconds while the last one has not been taken.
    @discardableResult
    public func raise(_ vector: UInt32) -> Bool {
        guard vector < vectors.count else { return refuse(.noSuchVector(vector)) }
        return vectors[Int(vector)].raise() || refuse(.detached)
    }

    /// One vector for a queue to keep: several queues may have the same.
    public func line(_ vector: UInt32) throws(InterruptError) -> InterruptLine {
        guard vector < vectors.count else { throw .noSuchVector(Int(vector), vectors: vectors.count) }
        return InterruptLine(vectors[Int(vector)])
    }

    /// Raises a vector by a message, as a device's write to memory does; false, and a fault recorded, if the message is
    /// none or names an entry that is not the device's own.
    @discardableResult
    public func write(_ message: InterruptMessage) -> Bool {
        guard let entry = message.entry else { return refuse(.notAMessage(message)) }
        // The device's own vectors only: what the entry is to others is not looked at.
        guard entry >= base, entry - base < vectors.count else { return refuse(.notOwn(entry: entry)) }
        return vectors[Int(entry - base)].raise() || refuse(.detached)
    }

    /// As `write`, for messages sent on from another table.
    public func send(_ message: InterruptMessage) { write(message) }

    private func refuse(_ cause: InterruptFault.Cause) -> Bool {
        table.record(InterruptFault(device: device, cause: cause))
        return false
    }
}
