// What a hot-plug script left in the backend's directory (Xen's docs/misc/block-scripts.txt): which device to drive.

import LinuxSystem
import XenBus
import XenStore

/// How far the script of a device is.
enum HotplugScript: Equatable, Sendable {
    /// There is none.
    case none
    /// It has not ended yet.
    case running
    /// It has ended; the target is the device that it made, nil where it leaves `params` to the backend.
    case done(target: String?)
    /// It says why not.
    case failed(String)

    /// Reads the nodes in the backend's directory `path`.
    static func read(from store: some StoreAccess, at path: String) throws(XenbusError) -> HotplugScript {
        guard let script = try store.text("\(path)/script"), !script.isEmpty else { return .none }
        if let reason = try store.text("\(path)/hotplug-error"), !reason.isEmpty { return .failed(reason) }
        switch try store.text("\(path)/hotplug-status") {
        case nil, "": return .running
        case "connected":
            if let target = try store.text("\(path)/physical-device-path"), !target.isEmpty {
                return .done(target: target)
            }
            guard let numbers = try store.text("\(path)/physical-device"), !numbers.isEmpty else {
                return .done(target: nil)
            }
            guard let device = DeviceNumbers(numbers) else {
                throw .malformed(
                    MalformedNode("\(path)/physical-device", "is \(StoreNumber.quote(numbers)), not MAJOR:MINOR in hex")
                )
            }
            guard let target = device.path else { return .failed("there is no block device \(numbers) here") }
            return .done(target: target)
        case let status?: return .failed("hotplug-status is \(StoreNumber.quote(status))")
        }
    }
}

/// A device's numbers as scripts write them: hexadecimal, `7:0` for /dev/loop0.
struct DeviceNumbers: Equatable {
    let major: UInt32
    let minor: UInt32

    init?(_ text: String) {
        let parts = text.split(separator: ":", omittingEmptySubsequences: false)
        guard parts.count == 2, parts.allSatisfy({ (1...5).contains($0.utf8.count) }),
            let major = UInt32(parts[0], radix: 16), let minor = UInt32(parts[1], radix: 16)
        else { return nil }
        self.major = major
        self.minor = minor
    }

    /// The node in /dev, as the kernel names it: udev's links need not be there.
    var path: String? {
        guard let text = FileSystem.text(of: "/sys/dev/block/\(major):\(minor)/uevent") else { return nil }
        for line in text.split(separator: "\n") where line.hasPrefix("DEVNAME=") {
            return "/dev/" + line.dropFirst("DEVNAME=".count)
        }
        return nil
    }
}
