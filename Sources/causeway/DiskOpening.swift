// What the backend drives, from what the toolstack wrote.

import BlockBackend
import DriverSupport
import Glibc
import HostDevices

struct DiskOpening: Sendable {
    /// Bypasses the page cache whatever the disk's configuration says.
    let direct: Bool

    /// Opens a disk. Blocks while a backend that was killed still lets go of it: its last requests end before its lock does.
    func open(_ settings: DiskSettings) throws(DeviceOpenFailure) -> any BlockDevice {
        if settings.target.isEmpty { throw DeviceOpenFailure(number: ENOMEDIUM, "no medium: the disk has no target") }
        var attempts = 100
        while true {
            do throws(DeviceError) { return try device(settings) } catch {
                attempts -= 1
                guard case .busy = error, attempts > 0 else {
                    throw DeviceOpenFailure(number: Self.number(of: error), "\(error)")
                }
                usleep(20_000)
            }
        }
    }

    private func device(_ settings: DiskSettings) throws(DeviceError) -> any BlockDevice {
        let readOnly = !settings.isWritable || settings.isCDROM
        return try openBlockDevice(
            target: settings.target, readOnly: readOnly, direct: direct || settings.isDirectSafe ? .preferred : .never)
    }

    private static func number(of error: DeviceError) -> Int32 {
        switch error {
        case .system(_, _, let errno): errno.rawValue
        case .busy: EBUSY
        case .readOnly: EROFS
        default: EINVAL
        }
    }
}
