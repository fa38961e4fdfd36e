// Locks that other programs look at, too: of a whole file (`flock(2)`), and of single bytes (`F_OFD_SETLK`). All are
// the open file's: gone with its last descriptor, however its process ends.

import CLinux
import Glibc

extension Descriptor {
    /// Opens a file or a block device to ask about it: nothing waits, and nobody sees a writer.
    /// - Parameter exclusively: of a block device: EBUSY if the kernel has promised it to somebody (a mount, a volume,
    ///   swap space, whoever asked for O_EXCL).
    package static func openForQuestions(_ path: String, exclusively: Bool = false) throws(Errno) -> Descriptor {
        try open(path, O_RDONLY | O_NONBLOCK | O_NOCTTY | (exclusively ? O_EXCL : 0))
    }

    /// Locks the whole file, and does not wait: EAGAIN if somebody's lock is in the way.
    /// - Parameter shared: beside other shared ones; else alone.
    package func lock(shared: Bool) throws(Errno) {
        try retryingInterrupts { flock(rawValue, (shared ? LOCK_SH : LOCK_EX) | LOCK_NB) }
    }

    /// Shares the lock of one byte, which need not exist: EAGAIN if somebody has it alone.
    package func shareByte(_ byte: Int64) throws(Errno) { try retryingInterrupts { causeway_share_byte(rawValue, byte) } }

    /// Whether another open file has a lock on any of these bytes; false where there are no such locks.
    /// - Parameter exclusiveOnly: shared locks do not count.
    package func isLockedElsewhere(_ bytes: Range<Int64>, exclusiveOnly: Bool = false) -> Bool {
        causeway_bytes_are_locked(rawValue, bytes.lowerBound, Int64(bytes.count), exclusiveOnly ? 1 : 0) > 0
    }

    /// What a loop device stands on: the file, and its number if it is a block device. Nil: nothing, or no loop device.
    package var loopBacking: (file: FileIdentity, device: DeviceHalves?)? {
        var (device, inode, block): (UInt64, UInt64, UInt64) = (0, 0, 0)
        // SAFETY: the call fills in three numbers.
        guard unsafe causeway_loop_backing(rawValue, &device, &inode, &block) == 0 else { return nil }
        return (FileIdentity(device: device, file: inode), block == 0 ? nil : DeviceHalves(block))
    }
}
