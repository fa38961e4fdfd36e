// What is mounted and what is swap space, as this process's mount namespace has it.

import Glibc

/// One mount (`/proc/self/mountinfo`).
package struct Mount: Equatable, Sendable {
    /// The file system's number; of those that have several devices or none it is no device's.
    package let device: DeviceHalves
    /// Where.
    package let place: String
    /// What the file system calls its device.
    package let source: String
    /// Whether the file system is written to, by this mount or another.
    package let isWritable: Bool

    /// Parses a line; nil if it is none.
    init?(line: Substring) {
        let fields = line.split(separator: " ")
        // Any number of optional fields, and a hyphen behind them.
        guard fields.count > 6, let device = DeviceHalves(text: String(fields[2])),
            let hyphen = fields[6...].firstIndex(of: "-"), hyphen + 3 < fields.count
        else { return nil }
        self.device = device
        place = Self.plain(fields[4])
        source = Self.plain(fields[hyphen + 2])
        isWritable = fields[hyphen + 3].split(separator: ",").first != "ro"
    }

    /// Blanks, tabs, line ends and backslashes are written as three octal digits.
    static func plain(_ text: Substring) -> String {
        var bytes: [UInt8] = []
        var rest = Array(text.utf8)[...]
        while let byte = rest.popFirst() {
            let digits = rest.prefix(3)
            if byte == UInt8(ascii: "\\"), digits.count == 3, let value = UInt8(String(decoding: digits, as: UTF8.self), radix: 8) {
                bytes.append(value)
                rest = rest.dropFirst(3)
            } else {
                bytes.append(byte)
            }
        }
        return String(decoding: bytes, as: UTF8.self)
    }
}

/// Mounts and swap spaces of one moment.
package struct MountTable: Sendable {
    /// The mounts, the oldest first.
    package let mounts: [Mount]
    /// The paths of swap files and swap devices.
    package let swaps: [String]

    /// - Parameter proc: where procfs is.
    package init(proc: String = "/proc") {
        self.init(
            mountinfo: FileSystem.text(of: "\(proc)/self/mountinfo") ?? "", swaps: FileSystem.text(of: "\(proc)/swaps") ?? "")
    }

    /// From the two files' texts.
    init(mountinfo: String, swaps: String) {
        mounts = mountinfo.split(separator: "\n").compactMap { Mount(line: $0) }
        // A heading, and the name first in each line.
        self.swaps = swaps.split(separator: "\n").dropFirst().compactMap { $0.split(separator: " ").first.map { Mount.plain($0) } }
    }
}
