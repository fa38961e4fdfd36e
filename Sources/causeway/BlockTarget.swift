// What a disk is backed by, on this host: checked before any process is started, so that the message is about the file.

import Glibc
import Toolstack

enum BlockTarget {
    /// Refuses what the backend cannot serve, and makes a relative path absolute: the backend may run elsewhere.
    static func check(_ disk: inout DiskSpecification) throws(Failure) {
        guard disk.format == .raw || disk.format == .empty else {
            throw Failure(
                "\(disk.vdev): format \(disk.format.rawValue) is not served; export the image with qemu-nbd or nbdkit and give "
                    + "its NBD URI as the target")
        }
        guard disk.script == nil else {
            throw Failure("\(disk.vdev): script: no scripts are run; give a path or an NBD URI")
        }
        guard disk.isPath else { return }
        if !disk.target.hasPrefix("/") { disk.target = try absolutePath(disk.target) }
        let kind = try kind(of: disk.target)
        guard kind == S_IFREG || kind == S_IFBLK else {
            throw Failure("blkback: \(disk.target): neither a regular file nor a block device")
        }
        guard unsafe access(disk.target, disk.isReadOnly ? R_OK : R_OK | W_OK) == 0 else {
            throw Failure("blkback: \(disk.target): cannot open it: \(systemMessage(errno))")
        }
    }

    /// A block device's numbers, nil for all other targets.
    static func physicalDevice(of disk: DiskSpecification) -> DeviceDirectories.PhysicalDevice? {
        var status = stat()
        guard disk.isPath, unsafe stat(disk.target, &status) == 0, status.st_mode & S_IFMT == S_IFBLK else {
            return nil
        }
        // gnu_dev_major and gnu_dev_minor: 12 bits of major at 8, 20 of minor around them.
        let number = UInt64(status.st_rdev)
        return .init(
            major: UInt32(truncatingIfNeeded: number >> 8 & 0xFFF),
            minor: UInt32(truncatingIfNeeded: number & 0xFF | number >> 12 & 0xFFF00))
    }

    private static func kind(of path: String) throws(Failure) -> mode_t {
        var status = stat()
        guard unsafe stat(path, &status) == 0 else { throw Failure("blkback: \(path): \(systemMessage(errno))") }
        return status.st_mode & S_IFMT
    }

    /// xl would look below /dev; a file in the working directory comes first here, since there is no configuration file whose
    /// directory could be meant.
    private static func absolutePath(_ path: String) throws(Failure) -> String {
        if unsafe access(path, F_OK) != 0, unsafe access("/dev/\(path)", F_OK) == 0 { return "/dev/\(path)" }
        guard let resolved = unsafe realpath(path, nil) else {
            throw Failure("blkback: \(path): \(systemMessage(errno))")
        }
        defer { unsafe free(resolved) }
        return unsafe String(cString: resolved)
    }
}
