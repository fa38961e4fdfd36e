// Where journals are: a directory in memory (tmpfs), one file for each ring, mapped shared so that it outlives the process at every
// instruction. Only its owner may read it: what guests ask for is nobody else's business.

import Glibc
import LinuxSystem
import SharedMemory
import XenBus
import XenWire

/// The journals of one backend, and its lock: two processes must never answer the same rings.
public struct JournalDirectory: Sendable {
    /// Where it is.
    public let path: String
    private let lock: Descriptor

    /// Makes the directory, and waits a moment for a predecessor that is still dying: it may store to its rings until its lock is gone.
    /// - Throws: `EWOULDBLOCK` if another backend lives there.
    public init(_ path: String, kind: DeviceKind) throws(Errno) {
        self.path = path
        if unsafe mkdir(path, 0o700) != 0, errno != EEXIST { throw Errno.current }
        lock = try Descriptor.open("\(path)/\(kind).lock", O_RDWR | O_CREAT, mode: 0o600)
        var attempts = 250
        while flock(lock.rawValue, LOCK_EX | LOCK_NB) != 0 {
            attempts -= 1
            guard attempts > 0 else { throw Errno(EWOULDBLOCK) }
            usleep(20_000)
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
        unsafe unlink(name)
        let descriptor = try Descriptor.open(name, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW, mode: 0o600)
        // All of it now: a store to a page that a full tmpfs has no room for would be a SIGBUS.
        let result = posix_fallocate(descriptor.rawValue, 0, off_t(size))
        guard result == 0 else {
            unsafe unlink(name)
            throw Errno(result)
        }
        return try SharedRegion(mapping: descriptor, byteCount: size, writable: true)
    }

    /// A predecessor's journal; nil if there is none.
    public func open(_ device: BackendPath, _ part: Part) -> SharedRegion? {
        guard let descriptor = try? Descriptor.open(file(device, part), O_RDWR | O_NOFOLLOW) else { return nil }
        var status = stat()
        guard unsafe fstat(descriptor.rawValue, &status) == 0, status.st_size >= SharedRegion.pageSize,
            status.st_size <= 1 << 24
        else {
            return nil
        }
        return try? SharedRegion(
            mapping: descriptor, byteCount: Int(status.st_size) / SharedRegion.pageSize * SharedRegion.pageSize,
            writable: true)
    }

    /// Whether a predecessor served this device.
    public func has(_ device: BackendPath) -> Bool { unsafe access(file(device, .queue(0)), F_OK) == 0 }

    /// Removes what was left for devices that are no more: their guests went while no backend was there.
    /// - Returns: how many devices these were.
    public func removeStale(of kind: DeviceKind, but devices: Set<DeviceID>) -> Int {
        var stale: Set<DeviceID> = []
        guard let directory = unsafe opendir(path) else { return 0 }
        defer { unsafe closedir(directory) }
        while let entry = unsafe readdir(directory) {
            let name = unsafe withUnsafePointer(to: &entry.pointee.d_name) { place in
                unsafe place.withMemoryRebound(to: CChar.self, capacity: 256) { unsafe String(cString: $0) }
            }
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
            unsafe unlink("\(path)/\(name)")
        }
        return stale.count
    }

    /// The device's connection ends, and with it what its journals were for.
    public func remove(_ device: BackendPath) {
        unsafe unlink(file(device, .control))
        unsafe unlink(file(device, .multicast))
        var queue = 0
        while unsafe unlink(file(device, .queue(queue))) == 0 { queue += 1 }
    }
}
