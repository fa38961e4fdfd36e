// Where a dump's bytes come from. Reads name an offset and a count, so that nothing but what is asked for is ever
// touched: a dump's pages are left alone while its table is read. A file is read with pread(2) and not mapped, because
// a mapped file that somebody cuts short ends the process with SIGBUS; with pread it is a short answer.

import Glibc
import LinuxSystem

/// Bytes at 64-bit offsets. Used from any thread.
public protocol ByteSource: Sendable {
    /// Bytes in all.
    var byteCount: UInt64 { get }
    /// Of these, those that take up room: a sparse file's holes do not. What the memory for reading a dump is measured
    /// by.
    var storedByteCount: UInt64 { get }
    /// The `count` bytes from `offset` on, or as many as there are.
    func read(_ count: Int, at offset: UInt64) throws(Errno) -> [UInt8]
}

extension ByteSource {
    /// All of them.
    public var storedByteCount: UInt64 { byteCount }
}

/// A file.
public struct FileSource: ByteSource {
    /// The file's size when it was opened.
    public let byteCount: UInt64
    /// What of it is no hole.
    public let storedByteCount: UInt64
    private let descriptor: Descriptor

    /// Opens `path` for reading; what is no regular file is EINVAL, a directory EISDIR.
    public init(path: String) throws(Errno) { try self.init(try Descriptor.open(path, O_RDONLY | O_NONBLOCK)) }

    /// Reads an open file, whose position is neither used nor moved; errors as above. EBADF: it is not open for
    /// reading.
    public init(_ descriptor: Descriptor) throws(Errno) {
        self.descriptor = descriptor
        let status = try descriptor.status()
        switch status.st_mode & S_IFMT {
        case S_IFREG: byteCount = UInt64(status.st_size)
        case S_IFDIR: throw Errno(EISDIR)
        default: throw Errno(EINVAL)
        }
        // In units of 512 bytes, whatever the file system's blocks are.
        storedByteCount = min(byteCount, UInt64(clamping: status.st_blocks).multipliedReportingOverflow(by: 512).partialValue)
        // Found out now whether it is open for reading, and not at the first page.
        _ = try descriptor.read(1, at: 0)
    }

    /// As many of the bytes as the file still has.
    public func read(_ count: Int, at offset: UInt64) throws(Errno) -> [UInt8] {
        guard count > 0, let start = off_t(exactly: offset), start <= off_t.max - off_t(count) else { return [] }
        return try descriptor.read(count, at: start)
    }
}

/// Bytes in memory: tests, fuzzers, and dumps that came over a network.
public struct MemorySource: ByteSource {
    private let bytes: [UInt8]
    /// How many they are.
    public var byteCount: UInt64 { UInt64(bytes.count) }
    /// Reads from `bytes`.
    public init(_ bytes: [UInt8]) { self.bytes = bytes }

    /// As many of the bytes as there are.
    public func read(_ count: Int, at offset: UInt64) throws(Errno) -> [UInt8] {
        guard count > 0, offset < byteCount else { return [] }
        let start = Int(offset)
        return Array(bytes[start..<start + min(count, bytes.count - start)])
    }
}
