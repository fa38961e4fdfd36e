// What a class of device knows of its rings' slots, for those who spoil them.

import DeviceFaults
import SharedMemory

/// How slots of one kind are spoilt.
public struct SlotForm: Sendable {
    /// Whether every slot is of this form; else that is only sure of each batch's first, behind which others may lie.
    let isEverySlot: Bool
    /// The number by which the slot at a place names its request.
    let id: @Sendable (SharedRegion, Int) -> UInt64
    /// Whether the slot at a place can be spoilt so.
    let takes: @Sendable (DeviceFault, SharedRegion, Int) -> Bool
    /// Spoils the slot at a place; what is to be chosen, by 64 random bits.
    let spoil: @Sendable (DeviceFault, SharedRegion, Int, UInt64) -> Void

    /// As given.
    public init(
        isEverySlot: Bool = true,
        id: @escaping @Sendable (SharedRegion, Int) -> UInt64,
        takes: @escaping @Sendable (DeviceFault, SharedRegion, Int) -> Bool,
        spoil: @escaping @Sendable (DeviceFault, SharedRegion, Int, UInt64) -> Void
    ) {
        self.isEverySlot = isEverySlot
        self.id = id
        self.takes = takes
        self.spoil = spoil
    }
}
