// A handle as one number, for callers that are not Swift. A number that was never given out is an old handle like any other.

extension DMAHandle {
    /// Index and generation, mixed with the device, so that one device's number is nonsense to another.
    package var number: UInt64 { (UInt64(generation) << 32 | UInt64(index)) ^ Self.mark(device) }

    /// The handle that has this number.
    package init(number: UInt64, of device: DMADevice) {
        let word = number ^ Self.mark(device.serial)
        self.init(
            index: UInt32(truncatingIfNeeded: word), generation: UInt32(truncatingIfNeeded: word >> 32), device: device.serial)
    }

    /// Differs in both halves for each two devices.
    private static func mark(_ device: UInt32) -> UInt64 { UInt64(device) &* 0x9E37_79B9_7F4A_7C15 }
}
