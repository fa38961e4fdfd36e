// The locks that programs with disk images take and look at. They are the open file's and gone with it: a killed
// backend leaves nothing behind.

import LinuxSystem

/// What an open disk keeps locked for as long as it is open.
///
/// QEMU locks single bytes of an image: 100 and the following for what it does, 200 and the following for what it lets
/// nobody else do, each in the order read, write, …; all its locks are shared ones, and it asks whether another's is
/// there (raw_check_lock_bytes in its block/file-posix.c). libvirt's lock daemon has byte 0.
struct ImageClaim {
    /// Doing, and refusing to others.
    private enum Byte {
        static let reads: Int64 = 100
        static let writes: Int64 = 101
        static let refusesReaders: Int64 = 200
        static let refusesWriters: Int64 = 201
        static let ofManagers: Range<Int64> = 0..<100
    }

    /// The disk that a partition is on, locked against whoever would divide it anew (systemd's and util-linux's
    /// convention).
    private let wholeDisk: Descriptor?

    /// Somebody's lock is in the way.
    struct Taken: Error, CustomStringConvertible {
        /// What is locked: the file, or the disk that it is a partition of.
        let file: Descriptor
        var description: String { "locked by another process" }
    }

    /// Locks what `file` is open on. Where a file system has no locks there are none.
    /// - Parameters:
    ///   - isBlockDevice: a block device's exclusive use is by O_EXCL, not by this.
    ///   - isShared: what we do is said, and nothing refused to others.
    init(_ file: Descriptor, writes: Bool, isBlockDevice: Bool, isShared: Bool) throws(Taken) {
        guard !isShared else {
            wholeDisk = nil
            Self.say(file, writes: writes, refusesWriters: false)
            return
        }
        let disk = isBlockDevice ? Self.openWholeDisk(of: file) : nil
        // Of two of ours that come at once, one has this.
        do throws(Errno) { try (disk ?? file).lock(shared: isBlockDevice || !writes) } catch {
            if error == .wouldBlock { throw Taken(file: disk ?? file) }
            // ENOLCK, ENOTSUP: a file system without locks.
        }
        wholeDisk = disk
        // Ours first and then the others': of two that come at once, at least one sees the other.
        Self.say(file, writes: writes, refusesWriters: true)
        if Self.isLocked(file, writes: writes) { throw Taken(file: file) }
    }

    private static func say(_ file: Descriptor, writes: Bool, refusesWriters: Bool) {
        let bytes = [Byte.reads] + (writes ? [Byte.writes] : []) + (refusesWriters ? [Byte.refusesWriters] : [])
        for byte in bytes { try? file.shareByte(byte) }
    }

    /// Whether another open file's locks forbid to read, or to write.
    static func isLocked(_ file: Descriptor, writes: Bool) -> Bool {
        file.isLockedElsewhere(Byte.writes..<Byte.writes + 1)
            || file.isLockedElsewhere(Byte.refusesReaders..<Byte.refusesReaders + 1)
            || writes && file.isLockedElsewhere(Byte.refusesWriters..<Byte.refusesWriters + 1)
            || file.isLockedElsewhere(Byte.ofManagers, exclusiveOnly: !writes)
    }

    private static func openWholeDisk(of file: Descriptor) -> Descriptor? {
        let topology = BlockTopology()
        guard let status = try? file.status(), let disk = topology.wholeDisk(of: DeviceHalves(UInt64(status.st_rdev))) else {
            return nil
        }
        return try? Descriptor.openForQuestions(topology.node(of: disk))
    }
}
