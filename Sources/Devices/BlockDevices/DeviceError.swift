// Why a disk could not be opened. What goes wrong later, in I/O, is an `Errno` in the request's result.

import LinuxSystem

/// Thrown when a disk cannot be opened; `description` names the disk and the reason.
public enum DeviceError: Error, Equatable, Sendable, CustomStringConvertible {
    /// The system refused: what was being done, and its reason.
    case system(name: String, doing: String, Errno)
    /// Somebody else has its bytes.
    case busy(name: String, by: DiskHolder, writing: Bool)
    /// It is neither a regular file nor a block device.
    case notADisk(path: String, kind: String)
    /// It holds less than one sector.
    case empty(name: String, byteCount: UInt64)
    /// Its end is a part of a sector, which nobody could reach.
    case partSector(name: String, byteCount: UInt64, sector: UInt64)
    /// Writing was asked for, and it cannot be written.
    case readOnly(name: String)
    /// Direct I/O was required and cannot be done there.
    case noDirectIO(path: String, reason: String)
    /// The target is none of the forms we know.
    case badTarget(String, reason: String)
    /// libnbd or the server refused.
    case nbd(uri: String, reason: String)
    /// The server is not there, or another has the disk; that may pass soon.
    case away(name: String, reason: String)
    /// A cluster refuses, or its image cannot be what was asked for.
    case cluster(name: String, reason: String, Errno)
    /// A controller that this process is to drive itself cannot be driven, or has no such namespace.
    case controller(name: String, reason: String, Errno)

    /// `disk.img: cannot open: No such file or directory`.
    public var description: String {
        switch self {
        case .system(let name, let doing, let error): "\(name): cannot \(doing): \(error)"
        case .busy(let name, let holder, let writing):
            "\(name): in use: \(holder.describe(for: name))" + (writing ? " (mode w! attaches it nevertheless)" : "")
        case .notADisk(let path, let kind): "\(path): is \(kind), not a regular file or a block device"
        case .empty(let name, let byteCount): "\(name): holds \(byteCount) bytes, less than one sector"
        case .partSector(let name, let byteCount, let sector):
            "\(name): holds \(byteCount) bytes, not whole sectors of \(sector): the last \(byteCount % sector) could not be reached; "
                + "pad it (truncate -s %\(sector))"
        case .readOnly(let name): "\(name): can only be read; open it read-only"
        case .noDirectIO(let path, let reason): "\(path): no direct I/O: \(reason)"
        case .badTarget(let target, let reason): "\(target): \(reason)"
        case .nbd(let uri, let reason): "\(uri): \(reason)"
        case .away(let name, let reason): "\(name): \(reason)"
        case .cluster(let name, let reason, _), .controller(let name, let reason, _): "\(name): \(reason)"
        }
    }

    /// What went wrong, of a disk that has been named.
    var reason: String {
        switch self {
        case .nbd(_, let reason), .away(_, let reason), .cluster(_, let reason, _), .controller(_, let reason, _): reason
        case .partSector(_, let byteCount, let sector): "it holds \(byteCount) bytes, not whole sectors of \(sector)"
        case .empty(_, let byteCount): "it holds \(byteCount) bytes, less than one sector"
        default: description
        }
    }
}
