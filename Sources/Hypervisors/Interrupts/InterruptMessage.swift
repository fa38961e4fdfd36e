// A message-signalled interrupt is a write of a device: so much data to such an address. Behind an interrupt remapper
// the two name an entry of its table, and say nothing of where the interrupt goes: that is the entry's business.

/// An address and the data that a device writes there to interrupt (PCI Local Bus 3.0, 6.8).
public struct InterruptMessage: Hashable, Sendable, CustomStringConvertible {
    /// Where the device writes.
    public var address: UInt64
    /// What it writes.
    public var data: UInt32

    /// As given.
    public init(address: UInt64, data: UInt32) {
        self.address = address
        self.data = data
    }

    /// The message for entry `base` + `offset` in the remappable format (Intel VT-d, "Interrupt Requests in Remappable
    /// Format"): the address names a block's first entry, 16 bits in two places, and the data how far into the block.
    public init(entry base: UInt16, offset: UInt16) {
        let handle = UInt64(base)
        address = Self.window | (handle & 0x7FFF) << 5 | Self.remappable | Self.hasOffset | (handle >> 15) << 2
        data = UInt32(offset)
    }

    /// The entry that it names; nil if it is no message in the remappable format. A message in the old format chooses
    /// its processor and vector itself, and is refused with the rest.
    public var entry: UInt32? {
        guard address & ~0xF_FFFF == Self.window, address & Self.remappable != 0, address & 3 == 0, data >> 16 == 0 else {
            return nil
        }
        let handle = UInt32(truncatingIfNeeded: address >> 5 & 0x7FFF | (address >> 2 & 1) << 15)
        // Seventeen bits: what goes past the table's end does not come back at its start.
        return address & Self.hasOffset != 0 ? handle + (data & 0xFFFF) : handle
    }

    /// Where writes are interrupts: 0xFEE00000 to 0xFEEFFFFF. No device is given these addresses for memory.
    static let window: UInt64 = 0xFEE0_0000
    private static let remappable: UInt64 = 1 << 4
    private static let hasOffset: UInt64 = 1 << 3

    /// `0x1 to 0xfee00018`.
    public var description: String { "0x\(String(data, radix: 16)) to 0x\(String(address, radix: 16))" }
}
