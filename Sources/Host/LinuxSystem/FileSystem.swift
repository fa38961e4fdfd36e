// Files by their paths: the few calls that need no more than a name.

import Glibc

/// What a path leads to.
package enum FileKind: Equatable, Sendable {
    case regular, blockDevice, directory, characterDevice, socket, pipe, other

    /// With its article, for messages.
    package var words: String {
        switch self {
        case .regular: "a regular file"
        case .blockDevice: "a block device"
        case .directory: "a directory"
        case .characterDevice: "a character device"
        case .socket: "a socket"
        case .pipe: "a fifo"
        case .other: "a special file"
        }
    }

    fileprivate init(_ mode: mode_t) {
        self =
            switch mode & S_IFMT {
            case S_IFREG: .regular
            case S_IFBLK: .blockDevice
            case S_IFDIR: .directory
            case S_IFCHR: .characterDevice
            case S_IFSOCK: .socket
            case S_IFIFO: .pipe
            default: .other
            }
    }
}

/// Which file it is, whatever it is called.
package struct FileIdentity: Hashable, Sendable {
    let device: UInt64
    let file: UInt64

    init(device: UInt64, file: UInt64) { (self.device, self.file) = (device, file) }

    /// Of what `status` is about.
    package init(_ status: stat) { self.init(device: UInt64(status.st_dev), file: UInt64(status.st_ino)) }
}

/// What a path's name is enough for.
///
/// SAFETY: a path is lent to a call as a C string with its NUL, and no call keeps it. Where a call is given more, or
/// gives something back, it is said there.
package enum FileSystem {
    /// Whether anything is at `path`.
    package static func exists(_ path: String) -> Bool { unsafe access(path, F_OK) == 0 }

    /// Checks that this process may read `path`, and write it, too, if asked.
    package static func checkAccess(_ path: String, writing: Bool) throws(Errno) {
        if unsafe access(path, writing ? R_OK | W_OK : R_OK) != 0 { throw Errno.current }
    }

    /// Whether this process may run `path`, or pass through it if it is a directory.
    package static func isExecutable(_ path: String) -> Bool { unsafe access(path, X_OK) == 0 }

    /// Whether this process may write `path`.
    package static func isWritable(_ path: String) -> Bool { unsafe access(path, W_OK) == 0 }

    /// What `path` is.
    /// - Parameter follows: whether a symbolic link counts as what it leads to.
    package static func kind(of path: String, follows: Bool = true) throws(Errno) -> FileKind {
        FileKind(try status(of: path, follows: follows).st_mode)
    }

    /// Whether `path` itself is this user's, and was last changed so long ago.
    package static func isOld(_ path: String, seconds: UInt64, by time: some TimeSource) -> Bool {
        guard let status = try? status(of: path, follows: false), status.st_uid == geteuid() else { return false }
        return UInt64(clamping: status.st_mtim.tv_sec) &+ seconds < time.calendarNanoseconds / 1_000_000_000
    }

    /// Whether there is a socket at `path` itself.
    package static func isSocket(_ path: String) -> Bool { (try? kind(of: path, follows: false)) == .socket }

    /// What an open file is.
    package static func kind(of descriptor: Descriptor) -> FileKind {
        (try? descriptor.status()).map { FileKind($0.st_mode) } ?? .other
    }

    /// Which file is at `path`, which is no link; nil if none is.
    package static func identity(of path: String) -> FileIdentity? {
        guard let status = try? status(of: path, follows: false) else { return nil }
        return FileIdentity(status)
    }

    /// The numbers of the device whose node `path` is, or leads to.
    package static func deviceNumber(of path: String) throws(Errno) -> UInt64 {
        UInt64(try status(of: path, follows: true).st_rdev)
    }

    /// What the kernel says of `path`, or of what it leads to (`stat(2)`).
    package static func status(of path: String, follows: Bool = true) throws(Errno) -> stat {
        var status = stat()
        // SAFETY: the call fills in the one structure that it is given.
        try retryingInterrupts { follows ? unsafe stat(path, &status) : unsafe lstat(path, &status) }
        return status
    }

    /// `path` from the root, without links.
    package static func resolved(_ path: String) throws(Errno) -> String {
        // SAFETY: the call allocates a string with its NUL, which is ours to free.
        guard let resolved = unsafe realpath(path, nil) else { throw Errno.current }
        defer { unsafe free(resolved) }
        return unsafe String(cString: resolved)
    }

    /// Removes a file; false if it is not there, or stays.
    @discardableResult package static func remove(_ path: String) -> Bool { unsafe unlink(path) == 0 }

    /// Makes `path` itself another user's; for the superuser.
    package static func setOwner(of path: String, to user: UInt32) throws(Errno) {
        try retryingInterrupts { unsafe lchown(path, user, gid_t.max) }
    }

    /// Sets a file's permissions (`chmod(2)`).
    package static func setMode(of path: String, to mode: mode_t) throws(Errno) {
        try retryingInterrupts { unsafe chmod(path, mode) }
    }

    /// Removes an empty directory; false if it is not there, or stays.
    @discardableResult package static func removeDirectory(_ path: String) -> Bool { unsafe rmdir(path) == 0 }

    /// Makes a directory, unless something is there.
    package static func makeDirectory(_ path: String, mode: mode_t) { _ = unsafe mkdir(path, mode) }

    /// The same for a directory that is needed.
    package static func requireDirectory(_ path: String, mode: mode_t) throws(Errno) {
        if unsafe mkdir(path, mode) != 0, errno != EEXIST { throw Errno.current }
    }

    /// Makes a directory and those above it that are missing, with this mode whatever the umask is; one that is there
    /// stays as it is.
    package static func requireDirectories(_ path: String, mode: mode_t) throws(Errno) {
        if unsafe mkdir(path, mode) == 0 {
            _ = unsafe chmod(path, mode)
            return
        }
        let reason = Errno.current
        if reason == .exists {
            guard try kind(of: path) == .directory else { throw .notADirectory }
            return
        }
        guard reason == .noSuchFile, let slash = path.lastIndex(of: "/"), slash > path.startIndex else { throw reason }
        try requireDirectories(String(path[..<slash]), mode: mode)
        try requireDirectory(path, mode: mode)
        _ = unsafe chmod(path, mode)
    }

    /// Makes a directory of this user's own, called `prefix` and six letters; its path.
    package static func makeTemporaryDirectory(_ prefix: String) throws(Errno) -> String {
        var template = Array("\(prefix)XXXXXX".utf8CString)
        // SAFETY: the template is an array of our own that ends with a NUL, and the call changes six letters of it in
        // place.
        let isMade = unsafe template.withUnsafeMutableBufferPointer { buffer in
            guard let start = buffer.baseAddress else { return false }
            return unsafe mkdtemp(start) != nil
        }
        if !isMade { throw Errno.current }
        return String(decoding: template.dropLast().map { UInt8(bitPattern: $0) }, as: UTF8.self)
    }

    /// The names in a directory, its own and its parent's among them; none if it cannot be read.
    package static func names(in directory: String) -> [String] {
        // SAFETY: the handle is this call's own and closed once, after the last entry. An entry is ours until the next
        // `readdir`; its name is read where it is, up to the NUL that the C library ends it with.
        guard let handle = unsafe opendir(directory) else { return [] }
        defer { unsafe _ = closedir(handle) }
        var names: [String] = []
        while let entry = unsafe readdir(handle) {
            let name = unsafe withUnsafePointer(to: &entry.pointee.d_name) { field in
                unsafe field.withMemoryRebound(to: CChar.self, capacity: 256) { unsafe String(cString: $0) }
            }
            names.append(name)
        }
        return names
    }

    /// The whole of a file, bytes that are no UTF-8 replaced; nil if it cannot be read. Good for files in /proc and
    /// /sys, too, which have no size and come in short pieces: Foundation takes the first short piece for the end.
    package static func text(of path: String) -> String? {
        guard let file = try? Descriptor.open(path, O_RDONLY), let bytes = try? file.readToEnd() else { return nil }
        return String(decoding: bytes, as: UTF8.self)
    }

    /// Puts a new file in the place of `path`: the whole of it, or what was there before stays.
    package static func replace(_ path: String, with bytes: [UInt8]) throws(Errno) {
        let new = path + ".new"
        let file = try Descriptor.open(new, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW)
        try file.writeAll(bytes)
        if unsafe rename(new, path) != 0 { throw Errno.current }
    }
}
