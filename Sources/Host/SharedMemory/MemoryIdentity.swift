// Which file's bytes a mapping shows: what a successor of this process tells the same memory by.

import Glibc
import LinuxSystem

/// A place in a file in memory, by numbers that hold for as long as anybody has the file open.
public struct MemoryIdentity: Hashable, Sendable {
    /// The file system's.
    public let device: UInt64
    /// The file's in it.
    public let inode: UInt64
    /// The first byte.
    public let offset: UInt64

    /// As another process noted it.
    public init(device: UInt64, inode: UInt64, offset: UInt64) {
        self.device = device
        self.inode = inode
        self.offset = offset
    }

    /// nil: the kernel does not say.
    init?(_ descriptor: Descriptor, offset: Int) {
        var status = stat()
        // SAFETY: the call fills in the one structure that it is given.
        guard unsafe fstat(descriptor.rawValue, &status) == 0 else { return nil }
        self.init(device: UInt64(status.st_dev), inode: UInt64(status.st_ino), offset: UInt64(offset))
    }
}
