// Errors of the system's as the error nodes of the store have them: by number.

import LinuxSystem

extension DriverFailure {
    /// The device is out until its frontend goes through a close cycle: the number for the error node, and one line.
    public static func refused(_ reason: Errno, _ text: String) -> DriverFailure { .refused(number: reason.rawValue, text) }

    /// What the device is backed by is not to be had now: the number for the error node, and one line.
    public static func unavailable(_ reason: Errno, _ text: String) -> DriverFailure {
        .unavailable(number: reason.rawValue, text)
    }
}
