// A regular file or a real block device as a disk. Raw always: what the file holds is never looked at, so that nothing
// a guest writes can change how it is opened next time (attacks.md A32).

import CLinux
import DMA
import Glibc
import LinuxSystem
import Reactor
import Synchronization

/// Whether I/O goes past the host's page cache.
public enum DirectIO: Sendable, Equatable {
    /// Through the page cache.
    case never
    /// Past it where the file system can do that at the disk's sector size (xl's `direct-io-safe`); else through it.
    case preferred
    /// Past it, or the disk is not opened.
    case required
}

/// Who else may use the disk meanwhile.
public enum DeviceSharing: Sendable, Equatable {
    /// Nobody may write it, and nobody may read it if we write: O_EXCL on a block device, locks that others look at,
    /// and a look at who has its bytes by another way.
    case exclusive
    /// Anybody may do anything (xl's mode `w!`); that we write is locked, so that others know.
    case shared
}

/// What is looked for among the open files of all processes; that takes some milliseconds.
public struct ProcessSearch: OptionSet, Sendable {
    /// The bits.
    public let rawValue: UInt8
    /// From the bits.
    public init(rawValue: UInt8) { self.rawValue = rawValue }
    /// A program that writes a file without locking it.
    public static let writers = ProcessSearch(rawValue: 1)
    /// Whose a lock is that is in the way.
    public static let names = ProcessSearch(rawValue: 2)
    /// Both.
    public static let all: ProcessSearch = [.writers, .names]
}

/// A disk that is a regular file or a block device.
public final class FileDisk: BlockDevice {
    /// The path as given.
    public let name: String
    /// Whether I/O goes past the page cache.
    public let usesDirectIO: Bool
    /// Whether it is a block device.
    public let isBlockDevice: Bool
    /// Whether the file is in memory (tmpfs, ramfs).
    public let isInMemory: Bool
    let descriptor: Descriptor
    private let claim: ImageClaim
    /// What direct I/O must be aligned to; 1 without it.
    let memoryAlignment: UInt32
    let offsetAlignment: UInt32
    private let current: Mutex<BlockGeometry>
    /// Counts the geometry's changes, so that queues keep a copy and take no lock for each operation.
    let version = Atomic<Int>(0)
    /// Runs what io_uring cannot, in a thread of its own, made when first needed.
    let worker = BlockingWorker(name: "discard")

    /// Opens `path`, exclusively unless told otherwise.
    public init(
        path: String, readOnly: Bool = false, direct: DirectIO = .never, sharing: DeviceSharing = .exclusive,
        search: ProcessSearch = .all
    ) throws(DeviceError) {
        name = path
        let probe = FileProbe(path: path, search: search)
        isBlockDevice = try probe.isBlockDevice()
        var opened = try probe.open(readOnly: readOnly, exclusive: sharing == .exclusive && isBlockDevice, direct: direct != .never)
        claim = try probe.claim(opened.descriptor, readOnly: readOnly, isBlockDevice: isBlockDevice, sharing)
        let geometry = try probe.geometry(opened.descriptor, readOnly: readOnly, isBlockDevice: isBlockDevice)
        if opened.isDirect, let reason = opened.alignmentProblem(sectorSize: geometry.logicalSectorSize) {
            if direct == .required { throw .noDirectIO(path: path, reason: reason) }
            try probe.dropDirect(&opened)
        }
        if direct == .required && !opened.isDirect {
            throw .noDirectIO(path: path, reason: "the file system does not support O_DIRECT")
        }
        isInMemory = !isBlockDevice && causeway_is_in_memory(opened.descriptor.rawValue) != 0
        descriptor = opened.descriptor
        usesDirectIO = opened.isDirect
        memoryAlignment = opened.isDirect ? opened.memoryAlignment : 1
        offsetAlignment = opened.isDirect ? opened.offsetAlignment : 1
        current = Mutex(geometry)
    }

    /// As last read.
    public var geometry: BlockGeometry { current.withLock { $0 } }

    /// Reads the size anew: a file that was truncated or extended, a device that was resized.
    public func refreshGeometry() throws(Errno) -> BlockGeometry {
        let byteCount = try FileProbe.byteCount(descriptor, isBlockDevice: isBlockDevice)
        let geometry = current.withLock { geometry in
            // A size that somebody is still changing must not end the disk: its whole sectors go on.
            geometry.partSector = byteCount % UInt64(geometry.logicalSectorSize)
            geometry.byteCount = byteCount - geometry.partSector
            return geometry
        }
        version.wrappingAdd(1, ordering: .releasing)
        return geometry
    }

    /// A queue on `reactor`; all queues share the descriptor, so a flush on one covers the writes of all.
    public func openQueue(
        on reactor: Reactor, bus: MemoryBus, depth: Int, owner: any BlockQueueOwner
    ) throws(Errno) -> any BlockDeviceQueue {
        FileQueue(disk: self, reactor: reactor, bus: bus, depth: depth, owner: owner)
    }
}
