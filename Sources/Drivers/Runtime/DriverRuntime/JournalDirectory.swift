// Where journals are: a directory in memory (tmpfs), one file for each ring, mapped shared so that it outlives the
// process at every instruction. Only its owner may read it: what guests ask for is nobody else's business.

import Glibc
import LinuxSystem
import SharedMemory
import XenBus
import XenTypes

/// The journals of one backend, and its lock: two processes must never answer the same rings.
public struct JournalDirectory: Sendable {
    /// Where it is.
    public let path: String
    private let claim: FileClaim

    /// Makes the directory, and waits a moment for a predecessor that is still dying: it may store to its rings until
    /// its lock is gone.
    /// - Parameter time: what that moment goes by: five seconds.
    /// - Throws: `EWOULDBLOCK` if another backend lives there.
    public init(_ path: String, kind: DeviceKind, time: some TimeSource) throws(Errno) {
        self.path = path
        try FileSystem.requireDirectory(path, mode: 0o700)
        do throws(ClaimError) { claim = try FileClaim("\(path)/\(kind).lock", patience: 5000, time: time) } catch {
            switch error {
            case .taken: throw .wouldBlock
            case .system(let reason): throw reason
            }
        }
    }

    /// What of a device a journal is of.
    public enum Part: Equatable, Sendable, LosslessStringConvertible {
        /// One queue's rings.
        case queue(Int)
        /// The control ring.
        case control
        /// An interface's multicast addresses.
        case multicast

        /// As it is part of a file's name.
        public var description: String {
            switch self {
            case .queue(let number): "\(number)"
            case .control: "control"
            case .multicast: "multicast"
            }
        }

        /// From a part of a file's name.
        public init?(_ name: String) {
            if name == "control" {
                self = .control
            } else if name == "multicast" {
                self = .multicast
            } else if let number = UInt32(name) {
                self = .queue(Int(number))
            } else {
                return nil
            }
        }
    }

    private func file(_ device: BackendPath, _ part: Part) -> String {
        "\(path)/\(device.kind)-\(device.device.frontend)-\(device.device.number)-\(part).journal"
    }

    /// Memory for a new journal: `size` bytes, whole pages.
    public func create(_ device: BackendPath, _ part: Part, byteCount size: Int) throws(Errno) -> SharedRegion {
        let name = file(device, part)
        // Not the file that a queue which is still closing may have mapped.
        FileSystem.remove(name)
        let descriptor = try Descriptor.open(name, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW, mode: 0o600)
        // All of it now: a store to a page that a full tmpfs has no room for would be a SIGBUS.
        let result = posix_fallocate(descriptor.rawValue, 0, off_t(size))
        guard result == 0 else {
            FileSystem.remove(name)
            throw Errno(result)
        }
        return try SharedRegion(mapping: descriptor, byteCount: size, writable: true)
    }

    /// The same for a device that is served without a journal, too, and then only does not survive this process
    /// unnoticed: nil, and a line.
    public func create(_ device: BackendPath, _ part: Part, byteCount: Int, log: (String) -> Void) -> SharedRegion? {
        do throws(Errno) { return try create(device, part, byteCount: byteCount) } catch {
            log("no journal in \(path): \(error)")
            return nil
        }
    }

    /// A predecessor's journal; nil if there is none.
    public func open(_ device: BackendPath, _ part: Part) -> SharedRegion? {
        Self.map(file(device, part), writable: true)
    }

    /// Somebody's journal, to be read only; nil if there is none.
    public static func look(at path: String) -> SharedRegion? { map(path, writable: false) }

    private static func map(_ path: String, writable: Bool) -> SharedRegion? {
        guard let descriptor = try? Descriptor.open(path, (writable ? O_RDWR : O_RDONLY) | O_NOFOLLOW) else { return nil }
        guard let status = try? descriptor.status(), status.st_size >= SharedRegion.pageSize, status.st_size <= 1 << 24 else {
            return nil
        }
        return try? SharedRegion(
            mapping: descriptor, byteCount: Int(status.st_size) / SharedRegion.pageSize * SharedRegion.pageSize,
            writable: writable)
    }

    /// Whether a predecessor served this device.
    public func has(_ device: BackendPath) -> Bool { FileSystem.exists(file(device, .queue(0))) }

    /// Removes what was left for devices that are no more: their guests went while no backend was there.
    /// - Returns: how many devices these were.
    public func removeStale(of kind: DeviceKind, but devices: Set<DeviceID>) -> Int {
        var stale: Set<DeviceID> = []
        for name in FileSystem.names(in: path) {
            guard name.hasPrefix("\(kind)-"), name.hasSuffix(".journal") else { continue }
            let parts = name.dropFirst("\(kind)-".utf8.count).dropLast(".journal".utf8.count).split(
                separator: "-", omittingEmptySubsequences: false)
            // Another kind's name may begin with this one's.
            guard parts.count == 3, let frontend = UInt16(parts[0]), let number = UInt32(parts[1]), Part(String(parts[2])) != nil
            else {
                continue
            }
            let id = DeviceID(frontend: DomainID(frontend), number: number)
            guard !devices.contains(id) else { continue }
            stale.insert(id)
            FileSystem.remove("\(path)/\(name)")
        }
        return stale.count
    }

    /// The device's connection ends, and with it what its journals were for.
    public func remove(_ device: BackendPath) {
        FileSystem.remove(file(device, .control))
        FileSystem.remove(file(device, .multicast))
        var queue = 0
        while FileSystem.remove(file(device, .queue(queue))) { queue += 1 }
    }
}
