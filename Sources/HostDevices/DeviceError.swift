// Why a disk could not be opened. What goes wrong later, in I/O, is an `Errno` in the request's result.

import LinuxSystem

/// Thrown when a disk cannot be opened; `description` names the disk and the reason.
public enum DeviceError: Error, Equatable, Sendable, CustomStringConvertible {
    /// The system refused: what was being done, and its reason.
    case system(name: String, doing: String, Errno)
    /// Somebody else uses it; `hint` says who that may be.
    case busy(name: String, hint: String)
    /// It is neither a regular file nor a block device.
    case notADisk(path: String, kind: String)
    /// It holds less than one sector.
    case empty(name: String, byteCount: UInt64)
    /// Writing was asked for, and it cannot be written.
    case readOnly(name: String)
    /// Direct I/O was required and cannot be done there.
    case noDirectIO(path: String, reason: String)
    /// The target is none of the forms we know.
    case badTarget(String, reason: String)
    /// libnbd or the server refused.
    case nbd(uri: String, reason: String)

    /// `disk.img: cannot open: No such file or directory`.
    public var description: String {
        switch self {
        case .system(let name, let doing, let error): "\(name): cannot \(doing): \(error)"
        case .busy(let name, let hint): "\(name): in use: \(hint)"
        case .notADisk(let path, let kind): "\(path): is \(kind), not a regular file or a block device"
        case .empty(let name, let byteCount): "\(name): holds \(byteCount) bytes, less than one sector"
        case .readOnly(let name): "\(name): can only be read; open it read-only"
        case .noDirectIO(let path, let reason): "\(path): no direct I/O: \(reason)"
        case .badTarget(let target, let reason): "\(target): \(reason)"
        case .nbd(let uri, let reason): "\(uri): \(reason)"
        }
    }
}
