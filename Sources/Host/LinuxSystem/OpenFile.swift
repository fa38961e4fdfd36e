// Which processes have a file open, as /proc tells it: to this user of its own processes, to root of all in its PID
// namespace.

import Glibc

/// One descriptor of one process.
package struct OpenFile: Equatable, Sendable {
    /// The process.
    package let process: Int32
    /// Its descriptor's number.
    package let number: Int32
    /// Whether it is open for writing.
    package let isWritable: Bool
    /// Whether the open file has locks of any kind.
    package let isLocked: Bool

    /// What /proc/PID/fdinfo says of it.
    init(process: Int32, number: Int32, information: String) {
        (self.process, self.number) = (process, number)
        var (flags, isLocked): (Int32, Bool) = (0, false)
        for line in information.split(separator: "\n") {
            if line.hasPrefix("flags:") {
                flags = Int32(truncatingIfNeeded: UInt64(line.dropFirst(6).drop { $0 == "\t" || $0 == " " }, radix: 8) ?? 0)
            } else if line.hasPrefix("lock:") {
                isLocked = true
            }
        }
        isWritable = flags & O_ACCMODE != O_RDONLY
        self.isLocked = isLocked
    }

    /// Whether it is this process's own descriptor `number`.
    package func isOwn(_ number: Int32) -> Bool { number == self.number && isOwn }

    /// Whether it is this process's.
    package var isOwn: Bool { process == getpid() }

    /// Every descriptor of `file`, or of a node of the block device `device`, that this process may know of.
    package static func all(of file: FileIdentity, device: DeviceHalves? = nil) -> [OpenFile] {
        var found: [OpenFile] = []
        for name in FileSystem.names(in: "/proc") {
            guard let process = Int32(name) else { continue }
            let directory = "/proc/\(process)"
            for entry in FileSystem.names(in: "\(directory)/fd") {
                guard let number = Int32(entry), let status = try? FileSystem.status(of: "\(directory)/fd/\(entry)"),
                    isMeant(status, file, device), let text = FileSystem.text(of: "\(directory)/fdinfo/\(entry)")
                else { continue }
                found.append(OpenFile(process: process, number: number, information: text))
            }
        }
        return found
    }

    /// A process that has the socket of this inode; nil: none that this process may know of.
    static func process(withSocket inode: UInt64) -> Int32? {
        for name in FileSystem.names(in: "/proc") {
            guard let process = Int32(name) else { continue }
            for entry in FileSystem.names(in: "/proc/\(process)/fd") {
                guard let status = try? FileSystem.status(of: "/proc/\(process)/fd/\(entry)") else { continue }
                if status.st_mode & S_IFMT == S_IFSOCK, UInt64(status.st_ino) == inode { return process }
            }
        }
        return nil
    }

    private static func isMeant(_ status: stat, _ file: FileIdentity, _ device: DeviceHalves?) -> Bool {
        guard let device else { return FileIdentity(status) == file }
        return DeviceHalves(blockDevice: status) == device
    }
}
