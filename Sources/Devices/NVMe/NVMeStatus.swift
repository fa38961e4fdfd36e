// How a command ended: the status field of a completion (NVMe base specification, "Status Field").

import Glibc
import LinuxSystem

/// The 15 bits behind the phase.
public struct NVMeStatus: Hashable, Sendable, CustomStringConvertible {
    /// As the controller wrote it.
    public let rawValue: UInt16

    /// As the controller wrote it, without the phase.
    @inlinable public init(rawValue: UInt16) { self.rawValue = rawValue }

    /// Whether all went well.
    @inlinable public var isSuccess: Bool { rawValue & 0x7FF == 0 }
    /// Status code: what happened.
    public var code: UInt8 { UInt8(truncatingIfNeeded: rawValue) }
    /// Status code type: whose table `code` is of.
    public var type: UInt8 { UInt8(rawValue >> 8 & 7) }
    /// Which of the controller's three delays comes before a retry; 0: none.
    public var retryDelay: Int { Int(rawValue >> 11 & 3) }
    /// Whether asking again may help: "do not retry" is not set.
    public var mayRetry: Bool { rawValue & 0x4000 == 0 && !isSuccess }

    /// What it is to a disk's user.
    public var errno: Errno {
        switch (type, code) {
        case (0, 0x01): .notSupported
        // Our mistake, or a number that the namespace does not have.
        case (0, 0x02), (0, 0x13), (0, 0x80): .invalidArgument
        case (0, 0x07): .canceled
        case (0, 0x0B): .noSuchDevice
        case (0, 0x81): .noSpace
        case (2, 0x86): .permissionDenied
        default: .ioError
        }
    }

    /// `status 0x4002 (generic 02: invalid field)`.
    public var description: String {
        let table = ["generic", "command", "media", "path"]
        let name = Int(type) < table.count ? table[Int(type)] : "type \(type)"
        let number = String(rawValue, radix: 16)
        return "status 0x\(number) (\(name) \(String(code, radix: 16))\(Self.names[rawValue & 0x7FF].map { ": \($0)" } ?? ""))"
    }

    /// Those that are met.
    private static let names: [UInt16: String] = [
        0x001: "invalid opcode", 0x002: "invalid field", 0x004: "data transfer error", 0x005: "power loss", 0x006: "internal error",
        0x007: "abort requested", 0x00B: "invalid namespace", 0x013: "invalid PRP offset", 0x080: "LBA out of range",
        0x081: "capacity exceeded", 0x100: "completion queue invalid", 0x101: "invalid queue identifier",
        0x102: "invalid queue size", 0x108: "invalid interrupt vector", 0x280: "write fault", 0x281: "unrecovered read error",
        0x286: "access denied", 0x287: "deallocated block",
    ]
}
