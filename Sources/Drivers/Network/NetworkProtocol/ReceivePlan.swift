// How many receive slots a packet needs, counted before it is taken from anywhere: one that never fits must not be kept
// for ever (protocol-rules.md 35).

/// The slots of one packet on the receive ring.
public struct ReceivePlan: Hashable, Sendable {
    /// Slots that carry data.
    public let dataSlots: Int
    /// Slots of extra information behind the first.
    public let extraSlots: Int

    /// A packet of `byteCount` bytes, at least 1.
    @inlinable
    public init(byteCount: Int, isSegmented: Bool, hasHash: Bool) {
        dataSlots = max(1, (byteCount + NetworkLimits.pageSize - 1) / NetworkLimits.pageSize)
        extraSlots = (isSegmented ? 1 : 0) + (hasHash ? 1 : 0)
    }

    /// All slots.
    @inlinable public var slotCount: Int { dataSlots + extraSlots }
}
