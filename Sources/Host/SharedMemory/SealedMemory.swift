// Memory that can be handed to a peer by descriptor: a memfd whose size is sealed before anybody else sees it, so that
// no access to it can ever raise SIGBUS. Whoever makes it decides which way it may be opened further on.

import CLinux
import Glibc
import LinuxSystem

/// An anonymous file in memory of a fixed size.
public struct SealedMemory: Sendable, CustomStringConvertible {
    /// Opened for reading and writing.
    public let descriptor: Descriptor
    /// Bytes, a whole number of pages.
    public let byteCount: Int

    /// Makes `byteCount` zeroed bytes that can neither shrink nor grow (`F_SEAL_SHRINK`, `F_SEAL_GROW`).
    /// - Parameter final: no further seal can be added (`F_SEAL_SEAL`).
    public init(_ name: String, byteCount: Int, final: Bool) throws(Errno) {
        // SAFETY: the name is lent for the call, which copies it.
        let raw = unsafe causeway_memfd_create(name)
        if raw < 0 { throw Errno.current }
        let descriptor = Descriptor(owning: raw)
        // Only the maker may open it again through /proc; a peer keeps to the descriptor it was given.
        _ = try retryingInterrupts { fchmod(raw, 0o600) }
        _ = try retryingInterrupts { ftruncate(raw, off_t(byteCount)) }
        _ = try retryingInterrupts { causeway_seal_size(raw) }
        if final { _ = try retryingInterrupts { causeway_seal_seals(raw) } }
        self.descriptor = descriptor
        self.byteCount = byteCount
    }

    /// From now on nobody can make a writable mapping or write through a descriptor; the writable mappings that exist
    /// go on (`F_SEAL_FUTURE_WRITE`, then `F_SEAL_SEAL`).
    public func forbidFurtherWriters() throws(Errno) {
        let raw = descriptor.rawValue
        _ = try retryingInterrupts { causeway_seal_future_write(raw) }
        _ = try retryingInterrupts { causeway_seal_seals(raw) }
    }

    /// Stores a zero; nothing where the memory is sealed against it.
    package func clearByte(at offset: Int) {
        precondition(offset >= 0 && offset < byteCount, "access outside sealed memory")
        var zero: UInt8 = 0
        // SAFETY: the kernel reads the one byte.
        _ = try? retryingInterrupts { unsafe pwrite(descriptor.rawValue, &zero, 1, off_t(offset)) }
    }

    /// A descriptor of the same memory that can only read.
    public func readOnlyDescriptor() throws(Errno) -> Descriptor {
        try Descriptor.open("/proc/self/fd/\(descriptor.rawValue)", O_RDONLY)
    }

    /// Whether `descriptor` is memory of exactly `byteCount` bytes whose size cannot change: what a receiver checks.
    public static func isSealed(_ descriptor: Descriptor, byteCount: Int) -> Bool {
        let seals = causeway_get_seals(descriptor.rawValue)
        // F_SEAL_SHRINK | F_SEAL_GROW; a descriptor that is no memfd answers -1.
        guard seals >= 0, seals & 0x6 == 0x6 else { return false }
        var status = stat()
        // SAFETY: the call fills in the one structure that it is given.
        guard unsafe fstat(descriptor.rawValue, &status) == 0 else { return false }
        return status.st_size == off_t(byteCount)
    }

    /// `sealed memory of 65536 bytes, fd 7`.
    public var description: String { "sealed memory of \(byteCount) bytes, \(descriptor)" }
}

extension Descriptor {
    /// How many bytes its file has now; 0 for what is no file.
    public var fileByteCount: UInt64 {
        var status = stat()
        // SAFETY: the call fills in the one structure that it is given.
        guard unsafe fstat(rawValue, &status) == 0 else { return 0 }
        return UInt64(clamping: status.st_size)
    }

    /// Whether its file can never become shorter (`F_SEAL_SHRINK`), so that a mapping of it stays whole.
    public var cannotShrink: Bool {
        let seals = causeway_get_seals(rawValue)
        return seals >= 0 && seals & 0x2 != 0
    }
}
