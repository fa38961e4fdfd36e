// The error numbers that this project gives or tells apart, by the names that apple/swift-system and errno(3) have for
// them.

import Glibc

extension Errno {
    /// EAGAIN: nothing there now, or no room now.
    @inlinable public static var wouldBlock: Errno { Errno(EAGAIN) }
    /// EFAULT: memory that cannot be reached.
    @inlinable public static var badAddress: Errno { Errno(EFAULT) }
    /// EROFS: written to what can only be read.
    @inlinable public static var readOnlyFileSystem: Errno { Errno(EROFS) }
    /// ENXIO: what should be at the other end is not there.
    @inlinable public static var noSuchAddressOrDevice: Errno { Errno(ENXIO) }
    /// ENODEV: nothing is open.
    @inlinable public static var noSuchDevice: Errno { Errno(ENODEV) }
    /// EINVAL.
    @inlinable public static var invalidArgument: Errno { Errno(EINVAL) }
    /// EOPNOTSUPP: not an operation of this device.
    @inlinable public static var notSupported: Errno { Errno(EOPNOTSUPP) }
    /// ENOTCONN: a connection that has ended.
    @inlinable public static var notConnected: Errno { Errno(ENOTCONN) }
    /// EIO.
    @inlinable public static var ioError: Errno { Errno(EIO) }
    /// ENOMEM.
    @inlinable public static var noMemory: Errno { Errno(ENOMEM) }
    /// EMSGSIZE: larger than what it goes through.
    @inlinable public static var messageTooLong: Errno { Errno(EMSGSIZE) }
    /// ENETDOWN: nobody is at the other end.
    @inlinable public static var networkDown: Errno { Errno(ENETDOWN) }
    /// ELOOP: something refers to itself.
    @inlinable public static var tooManySymbolicLinkLevels: Errno { Errno(ELOOP) }
    /// Whether it says only that there is no room or memory at this moment.
    public var passes: Bool { self == .wouldBlock || self == .noBufferSpace || self == .noMemory }
    /// ENOBUFS: no buffer is left.
    @inlinable public static var noBufferSpace: Errno { Errno(ENOBUFS) }
    /// EPIPE: nobody reads any more.
    @inlinable public static var brokenPipe: Errno { Errno(EPIPE) }
    /// ECONNRESET.
    @inlinable public static var connectionReset: Errno { Errno(ECONNRESET) }
    /// EINTR: a signal came.
    @inlinable public static var interrupted: Errno { Errno(EINTR) }
    /// ECANCELED: never begun.
    @inlinable public static var canceled: Errno { Errno(ECANCELED) }
    /// ETOOMANYREFS: more descriptors under way in sockets than the kernel lets a user have.
    @inlinable public static var tooManyReferences: Errno { Errno(ETOOMANYREFS) }
    /// EMFILE: the process has no descriptor left.
    @inlinable public static var tooManyOpenFiles: Errno { Errno(EMFILE) }
    /// ENFILE: the system has no descriptor left.
    @inlinable public static var tooManyOpenFilesInSystem: Errno { Errno(ENFILE) }
    /// EACCES: this user may not.
    @inlinable public static var permissionDenied: Errno { Errno(EACCES) }
    /// EPERM: nobody without a capability may, or nobody at all.
    @inlinable public static var notPermitted: Errno { Errno(EPERM) }
    /// ENOTDIR: something else is where a directory should be.
    @inlinable public static var notADirectory: Errno { Errno(ENOTDIR) }
    /// ENOENT: nothing of this name.
    @inlinable public static var noSuchFile: Errno { Errno(ENOENT) }
    /// EEXIST: there is one of this name.
    @inlinable public static var exists: Errno { Errno(EEXIST) }
    /// ENOSPC: no room on the device.
    @inlinable public static var noSpace: Errno { Errno(ENOSPC) }
    /// EBUSY: somebody else uses it.
    @inlinable public static var busy: Errno { Errno(EBUSY) }
    /// ENOMEDIUM: a drive with nothing in it.
    @inlinable public static var noMedium: Errno { Errno(ENOMEDIUM) }
    /// ENAMETOOLONG: longer than a name may be.
    @inlinable public static var fileNameTooLong: Errno { Errno(ENAMETOOLONG) }
    /// ESRCH: no process of this number.
    @inlinable public static var noSuchProcess: Errno { Errno(ESRCH) }
    /// ECHILD: no child of this number.
    @inlinable public static var noChildProcess: Errno { Errno(ECHILD) }
    /// EADDRINUSE: somebody else listens there.
    @inlinable public static var addressInUse: Errno { Errno(EADDRINUSE) }
    /// ECONNABORTED: the connection was gone before it was taken.
    @inlinable public static var connectionAborted: Errno { Errno(ECONNABORTED) }

    /// Whether the operation is one that a device does not know: EOPNOTSUPP, ENOSYS or ENOTTY.
    @inlinable public var isUnsupported: Bool { self == .notSupported || rawValue == ENOSYS || rawValue == ENOTTY }
}
