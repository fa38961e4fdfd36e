// What an entry carries through the kernel and back: whose it is and what it is called.

/// `slot 16 | kind 4 | generation 12 | tag 32`.
struct UserData {
    enum Kind: UInt64 {
        /// An operation with memory: counted, waited for.
        case operation = 0
        /// A wait for readiness: not counted, dropped with its slot.
        case wait = 1
        /// The reactor's own wake-up.
        case wake = 2
        /// An answer that nobody wants: a cancellation's.
        case ignored = 3
    }

    let rawValue: UInt64

    init(rawValue: UInt64) { self.rawValue = rawValue }

    init(_ kind: Kind, _ slot: ReactorSlot, tag: UInt32) {
        rawValue = UInt64(slot.index) << 48 | kind.rawValue << 44 | UInt64(slot.generation) << 32 | UInt64(tag)
    }

    /// Generations wrap here.
    static let generationMask: UInt16 = 0xFFF
    /// Most slots.
    static let slotLimit = 1 << 16

    var kind: Kind { Kind(rawValue: rawValue >> 44 & 0xF) ?? .ignored }
    var slot: Int { Int(rawValue >> 48) }
    var generation: UInt16 { UInt16(truncatingIfNeeded: rawValue >> 32) & Self.generationMask }
    var tag: UInt32 { UInt32(truncatingIfNeeded: rawValue) }
}
