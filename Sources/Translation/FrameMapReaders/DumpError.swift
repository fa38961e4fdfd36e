// Why a dump cannot be read: one message that names the part of the file, the place in it, and what is wrong there.

import LinuxSystem

/// A dump that cannot be read, or a part of it.
public struct DumpError: Error, Hashable, Sendable, CustomStringConvertible {
    /// What kind of trouble it is.
    public enum Cause: Hashable, Sendable, CustomStringConvertible {
        /// The bytes make no sense, or end too early.
        case malformed
        /// They make sense, but are of a kind that is not read here.
        case unsupported
        /// The operating system refused.
        case system(Errno)
        /// The frame map's tables would need more memory than they may have.
        case tooLarge

        /// One clause.
        public var description: String {
            switch self {
            case .malformed: "it makes no sense"
            case .unsupported: "it is of a kind that is not read here"
            case .system(let error): "\(error)"
            case .tooLarge: "the map would need more memory than it may have"
            }
        }
    }
    /// The kind of trouble.
    public let cause: Cause
    /// `ELF header`, `section .xen_p2m`, …
    public let part: String
    /// Where in the file, bytes from its start.
    public let offset: UInt64
    /// What is wrong.
    public let reason: String

    /// Malformed.
    init(_ part: String, at offset: UInt64, _ reason: String) { self.init(.malformed, part, at: offset, reason) }

    init(_ cause: Cause, _ part: String, at offset: UInt64, _ reason: String) {
        self.cause = cause
        self.part = part
        self.offset = offset
        self.reason = reason
    }

    /// `section .xen_p2m, offset 0x3000: 24 bytes are no whole number of 16-byte entries`.
    public var description: String { "\(part), offset \(hexadecimal(offset)): \(reason)" }
}

/// A source with the errors of a dump's reader.
struct DumpBytes: Sendable {
    let source: any ByteSource
    var byteCount: UInt64 { source.byteCount }

    /// Tables of 4 KiB that each direction of the dump's map may have: 32 MiB, and twice what the file takes up. A
    /// page that lies alone needs two of them, and takes up a page of the file: so every complete dump is read, and no
    /// file takes more memory than that, however it lies.
    var tableLimit: Int { Int(min(1 << 13 + source.storedByteCount / 2048, 1 << 20)) }
    /// Pages of a domain's own p2m that are copied from a dump, by the same measure.
    var copyLimit: Int { Int(min(1 << 13 + source.storedByteCount / 2048, 1 << 22)) }

    /// All of `count` bytes at `offset`, which belong to `part`; anything less is an error.
    func read(_ count: Int, at offset: UInt64, _ part: @autoclosure () -> String) throws(DumpError) -> [UInt8] {
        guard offset <= byteCount, UInt64(count) <= byteCount - offset else {
            throw DumpError(part(), at: offset, "\(count) bytes are needed and the file ends at \(hexadecimal(byteCount))")
        }
        let bytes: [UInt8]
        do { bytes = try source.read(count, at: offset) } catch {
            throw DumpError(.system(error), part(), at: offset, "cannot read \(count) bytes: \(error)")
        }
        // The file may have become shorter since it was opened.
        guard bytes.count == count else {
            throw DumpError(part(), at: offset, "only \(bytes.count) of \(count) bytes could be read: the file became shorter")
        }
        return bytes
    }
}
