// A handle as one number, for callers that are not Swift. A number that was never given out is an old handle like any other.

extension DMAHandle {
    /// Index and generation.
    package var number: UInt64 { UInt64(generation) << 32 | UInt64(index) }
    /// The handle that has this number.
    package init(number: UInt64) {
        self.init(index: UInt32(truncatingIfNeeded: number), generation: UInt32(truncatingIfNeeded: number >> 32))
    }
}
