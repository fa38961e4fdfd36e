// What a disk's path leads to on this host: looked at before anything is opened, by whoever wants to say no early.

import LinuxSystem

/// Why a path is no disk's.
public enum HostDiskError: Error, Equatable, Sendable, CustomStringConvertible {
    /// There is nothing, or it may not be looked at.
    case notFound(path: String, Errno)
    /// It is there and is something else: what.
    case notADisk(path: String, kind: String)
    /// This process may not open it as it is to be used.
    case notPermitted(path: String, Errno)

    /// `disk.img: cannot open it: Permission denied`.
    public var description: String {
        switch self {
        case .notFound(let path, let reason): "\(path): \(reason)"
        case .notADisk(let path, let kind): "\(path): is \(kind), not a regular file or a block device"
        case .notPermitted(let path, let reason): "\(path): cannot open it: \(reason)"
        }
    }
}

/// A regular file or a block device that can be a disk.
public struct HostDisk: Equatable, Sendable {
    /// From the root.
    public let path: String

    /// Looks at `path`. What begins with no slash is looked for in the working directory, and then below /dev, where xl
    /// looks: there is no configuration file here whose directory could be meant.
    public init(path given: String, isReadOnly: Bool) throws(HostDiskError) {
        path = given.hasPrefix("/") ? given : try Self.absolute(given)
        let kind: FileKind
        do throws(Errno) { kind = try FileSystem.kind(of: path) } catch { throw .notFound(path: path, error) }
        guard kind == .regular || kind == .blockDevice else { throw .notADisk(path: path, kind: kind.words) }
        do throws(Errno) { try FileSystem.checkAccess(path, writing: !isReadOnly) } catch {
            throw .notPermitted(path: path, error)
        }
    }

    private static func absolute(_ path: String) throws(HostDiskError) -> String {
        if !FileSystem.exists(path), FileSystem.exists("/dev/\(path)") { return "/dev/\(path)" }
        do throws(Errno) { return try FileSystem.resolved(path) } catch { throw .notFound(path: path, error) }
    }

    /// The numbers of the block device at `path`; nil if there is none.
    public static func deviceNumbers(of path: String) -> (major: UInt32, minor: UInt32)? {
        guard (try? FileSystem.kind(of: path)) == .blockDevice, let number = try? FileSystem.deviceNumber(of: path) else {
            return nil
        }
        let halves = DeviceHalves(number)
        return (halves.major, halves.minor)
    }
}
