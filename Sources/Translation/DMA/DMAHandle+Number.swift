// A handle as one number, for callers that are not Swift. A number that was never given out is an old handle like any
// other, and so is another device's.

extension DMAHandle {
    /// Index (24 bits: as many mappings as there can be at once), generation (24) and device (16).
    package var number: UInt64 { UInt64(device) << 48 | UInt64(generation) << 24 | UInt64(index & 0xFF_FFFF) }
    /// The handle that has this number.
    package init(number: UInt64) {
        self.init(
            index: UInt32(truncatingIfNeeded: number & 0xFF_FFFF), generation: UInt32(truncatingIfNeeded: number >> 24 & 0xFF_FFFF),
            device: UInt32(truncatingIfNeeded: number >> 48))
    }
}

extension CoherentMemory {
    /// Its handle's number.
    package var number: UInt64 { handle.number }
}
