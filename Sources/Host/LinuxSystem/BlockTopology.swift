// How block devices stand on each other: partitions, device mapper and arrays, loop devices, as /sys tells it.

import Glibc

/// The block devices of this host.
package struct BlockTopology: Sendable {
    private let sys: String
    private let dev: String

    /// - Parameters:
    ///   - sys: where sysfs is.
    ///   - dev: where the devices' nodes are.
    package init(sys: String = "/sys", dev: String = "/dev") { (self.sys, self.dev) = (sys, dev) }

    private func directory(_ device: DeviceHalves) -> String { "\(sys)/dev/block/\(device.major):\(device.minor)" }

    private func text(_ path: String) -> String? { FileSystem.text(of: path).map { String($0.prefix { $0 != "\n" }) } }

    private func device(at path: String) -> DeviceHalves? { FileSystem.text(of: "\(path)/dev").flatMap { DeviceHalves(text: $0) } }

    /// The kernel's name for it, `sda1`; nil if it knows no such device.
    package func name(of device: DeviceHalves) -> String? {
        let line = FileSystem.text(of: "\(directory(device))/uevent")?.split(separator: "\n").first { $0.hasPrefix("DEVNAME=") }
        return line.map { String($0.dropFirst("DEVNAME=".count)) }
    }

    /// The path of its node.
    package func node(of device: DeviceHalves) -> String {
        name(of: device).map { "\(dev)/\($0)" } ?? "block device \(device.major):\(device.minor)"
    }

    /// What people call it: its node, with the name that it has as a volume.
    package func title(of device: DeviceHalves) -> String {
        let node = node(of: device)
        return text("\(directory(device))/dm/name").map { "\(node) (\($0))" } ?? node
    }

    /// The disk that it is a partition of; nil: it is none.
    package func wholeDisk(of device: DeviceHalves) -> DeviceHalves? {
        guard FileSystem.exists("\(directory(device))/partition") else { return nil }
        return self.device(at: "\(directory(device))/..")
    }

    /// Its partitions.
    package func partitions(of device: DeviceHalves) -> [DeviceHalves] {
        FileSystem.names(in: directory(device)).sorted().compactMap { name in
            let path = "\(directory(device))/\(name)"
            guard name != ".", name != "..", FileSystem.exists("\(path)/partition") else { return nil }
            return self.device(at: path)
        }
    }

    /// Volumes and arrays that stand on it.
    package func holders(of device: DeviceHalves) -> [DeviceHalves] { related("holders", device) }

    /// What a volume or an array stands on.
    package func slaves(of device: DeviceHalves) -> [DeviceHalves] { related("slaves", device) }

    private func related(_ directory: String, _ device: DeviceHalves) -> [DeviceHalves] {
        let path = "\(self.directory(device))/\(directory)"
        return FileSystem.names(in: path).sorted().filter { !$0.hasPrefix(".") }.compactMap { self.device(at: "\(path)/\($0)") }
    }

    /// The path of what a loop device stands on, as it was called when the loop device was made.
    package func loopFile(of device: DeviceHalves) -> String? { text("\(directory(device))/loop/backing_file") }

    /// The loop devices that have a file.
    package var loops: [DeviceHalves] {
        FileSystem.names(in: "\(sys)/block").sorted().compactMap { name in
            let path = "\(sys)/block/\(name)"
            return name.hasPrefix("loop") && FileSystem.exists("\(path)/loop/backing_file") ? device(at: path) : nil
        }
    }

    /// The btrfs file system that it is one of the devices of, and all of these; nil: of none that is mounted. Mounts
    /// name one of them, and none by its number.
    package func btrfs(of device: DeviceHalves) -> (identifier: String, devices: [DeviceHalves])? {
        for identifier in FileSystem.names(in: "\(sys)/fs/btrfs") where identifier.contains("-") {
            let path = "\(sys)/fs/btrfs/\(identifier)/devices"
            let devices = FileSystem.names(in: path).sorted().compactMap {
                $0.hasPrefix(".") ? nil : self.device(at: "\(path)/\($0)")
            }
            if devices.contains(device) { return (identifier, devices) }
        }
        return nil
    }
}
