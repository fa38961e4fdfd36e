// A disk as it is typed: refused before any process is started, so that the message is about what was typed.

import BlockDevices
import HostIommu
import LinuxSystem
import Toolstack

/// Parses a disk, refuses what no backend here can serve, and makes a relative path absolute: the backend may run
/// elsewhere.
/// - Parameters:
///   - anyBackend: whether a backend of another make may serve it. QEMU's, which `backendtype=qdisk` asks for, knows
///     formats.
///   - remark: what is told of an image that looks like another format's.
package func parseDisk(
    _ text: String, anyBackend: Bool = false, remark: (String) -> Void = complain
) throws(Failure) -> DiskSpecification {
    // To xl a script's prefix; no scripts are run, and who writes it means a URI.
    if text.hasPrefix("nbd:"), !text.hasPrefix("nbd://") { try checkTarget(String(text.prefix { $0 != "," })) }
    var disk: DiskSpecification
    do { disk = try DiskSpecification(parsing: text) } catch { throw .usage("\(error)") }
    guard disk.format == .raw || disk.format == .empty || anyBackend && disk.backendType == .qdisk else {
        throw Failure(
            "\(disk.vdev): format \(disk.format.rawValue) is not served; export the image with qemu-nbd or nbdkit and give "
                + "its NBD URI as the target")
    }
    guard anyBackend || disk.backendType ?? .phy == .phy else {
        throw Failure(
            "\(disk.vdev): backendtype \(disk.backendType?.rawValue ?? ""): no such backend is started here; "
                + "`pair --backend-command` starts QEMU's, and Causeway's own is phy")
    }
    guard disk.script == nil else {
        throw Failure("\(disk.vdev): script: no scripts are run; give a path or an NBD URI")
    }
    if !disk.target.isEmpty { try checkTarget(disk.target) }
    try checkController(disk)
    guard disk.isPath else { return disk }
    do throws(HostDiskError) { disk.target = try HostDisk(path: disk.target, isReadOnly: disk.isReadOnly).path } catch {
        throw Failure("blkback: \(error)\(hint(disk.target, error))")
    }
    if disk.format == .raw, let looks = ImageSignature.format(of: disk.target) {
        remark(
            "\(disk.vdev): \(disk.target) looks like a \(looks) image and is served as it is, byte for byte; for the disk in it, export "
                + "it with qemu-nbd and give the NBD URI as the target")
    }
    return disk
}

private func checkTarget(_ target: String) throws(Failure) {
    do throws(DeviceError) { _ = try DeviceTarget(target) } catch { throw .usage("disk: \(error)") }
}

/// A controller that cannot be driven from here is refused with what gives it to us.
private func checkController(_ disk: DiskSpecification) throws(Failure) {
    guard case .nvme(let address, _)? = try? DeviceTarget(disk.target) else { return }
    guard let device = PCIDevice(address) else {
        throw Failure("\(disk.vdev): \(disk.target): there is no such PCI device (`causeway devices` lists NVMe controllers)")
    }
    if let obstacle = device.obstacle() { throw Failure("\(disk.vdev): \(disk.target): \(obstacle)") }
}

/// What else may have been meant by a target of which there is no file.
private func hint(_ target: String, _ error: HostDiskError) -> String {
    switch error {
    case .notFound where !target.contains("/") && target.contains(":"):
        "; and nothing else that can be served begins with `\(target.prefix { $0 != ":" }):` (a disk without a file is null:SIZE)"
    case .notADisk("/dev/null", _): "; a disk without a file is null:SIZE"
    default: ""
    }
}

extension DiskSpecification {
    /// A block device's numbers, nil for all other targets.
    package var physicalDevice: DeviceDirectories.PhysicalDevice? {
        guard isPath, let numbers = HostDisk.deviceNumbers(of: target) else { return nil }
        return .init(major: numbers.major, minor: numbers.minor)
    }
}
