// What the kernel says of block devices, and of files that are used as such.

import CLinux
import Glibc

extension Descriptor {
    /// A block device's capacity in bytes.
    package func blockByteCount() throws(Errno) -> UInt64 {
        var bytes: UInt64 = 0
        // SAFETY: the call fills in one number.
        if unsafe causeway_block_size(rawValue, &bytes) != 0 { throw Errno.current }
        return bytes
    }

    /// A block device's sectors, bytes: those that it is addressed in, and those that it writes at once.
    package func blockSectorSizes() throws(Errno) -> (logical: UInt32, physical: UInt32) {
        var (logical, physical): (UInt32, UInt32) = (0, 0)
        // SAFETY: the call fills in two numbers.
        if unsafe causeway_block_sector_sizes(rawValue, &logical, &physical) != 0 { throw Errno.current }
        return (logical, physical)
    }

    /// Whether it is a block device that can only be read.
    package var isReadOnlyBlockDevice: Bool {
        var flag: Int32 = 0
        // SAFETY: the call fills in one number.
        return unsafe causeway_block_read_only(rawValue, &flag) == 0 && flag != 0
    }

    /// What direct I/O must be aligned to, bytes (`STATX_DIOALIGN`, Linux 6.1); nil if the kernel does not say.
    package var directAlignment: (memory: UInt32, offset: UInt32)? {
        var (memory, offset): (UInt32, UInt32) = (0, 0)
        // SAFETY: the call fills in two numbers.
        guard unsafe causeway_direct_alignment(rawValue, &memory, &offset) == 0, memory > 0, offset > 0 else { return nil }
        return (memory, offset)
    }
}

/// A device's number as the two halves that names in /sys have.
package struct DeviceHalves: Hashable, Sendable {
    /// The driver's half.
    package let major: UInt32
    /// The device's.
    package let minor: UInt32

    /// The halves of `number`, as `stat(2)` has it.
    package init(_ number: UInt64) {
        var (major, minor): (UInt32, UInt32) = (0, 0)
        // SAFETY: the call fills in two numbers.
        unsafe causeway_device_number(number, &major, &minor)
        (self.major, self.minor) = (major, minor)
    }
    /// Of the block device whose node `status` is about; nil: it is about something else.
    package init?(blockDevice status: stat) {
        guard status.st_mode & S_IFMT == S_IFBLK else { return nil }
        self.init(UInt64(status.st_rdev))
    }

    /// From the kernel's `7:0`, which may have a line's end; nil if that is no device's number.
    package init?(text: String) {
        let parts = text.prefix { $0 != "\n" }.split(separator: ":")
        guard parts.count == 2, let major = UInt32(parts[0]), let minor = UInt32(parts[1]) else { return nil }
        (self.major, self.minor) = (major, minor)
    }
}
