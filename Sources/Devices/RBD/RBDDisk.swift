// An image of a Ceph cluster as a disk.

import BlockDevices
import DMA
import LibRBD
import LinuxSystem
import Reactor
import Synchronization

/// An image; if it can be written, nobody else's.
public final class RBDDisk: BlockDevice {
    /// `rbd:POOL/IMAGE`.
    public let name: String
    let image: RBDImage
    private let log: @Sendable (String) -> Void
    /// Whether it has the image's lock, without which it may write nothing.
    let isLocked: Bool
    private let current: Mutex<BlockGeometry>
    /// Counts the geometry's changes, so that a queue keeps a copy.
    let version = Atomic<Int>(0)
    private let fence = Atomic<Bool>(false)
    private let queues = Atomic<Int>(0)
    private let serial = Atomic<Int>(0)
    private let changesSeen = Atomic<UInt64>(0)
    private let isProbing = Atomic<Bool>(false)
    private let prober = BlockingWorker(name: "rbd-size")

    /// One: all would have the one connection, and what one queue leaves behind the next one takes back.
    public var queueLimit: Int { 1 }

    /// Connects, opens and locks the image; a snapshot, or a disk that is only read, is not locked. Blocks, for some
    /// seconds at most.
    /// - Throws: `away` where trying again may help: the cluster does not answer, or somebody who lives has the lock.
    init(_ target: RBDTarget, _ options: BlockDeviceOptions, _ own: RBDOptions) throws(DeviceError) {
        let name = "\(target)"
        guard options.readOnly || target.snapshot.isEmpty else { throw .readOnly(name: name) }
        // Those who share an image pass its lock to and fro, which librbd does by itself.
        let isLocked = !options.readOnly && options.sharing == .exclusive
        let image: RBDImage
        let bytes: UInt64
        do throws(RBDError) {
            image = try RBDImage(RBDPlace(target), readOnly: options.readOnly)
            if isLocked, try !image.canBeLocked() { throw RBDError(.unlockable, .notSupported) }
            bytes = try image.byteCount()
        } catch { throw DeviceError(error, of: name) }
        if bytes < 512 { throw .empty(name: name, byteCount: bytes) }
        if bytes % 512 != 0 { throw .partSector(name: name, byteCount: bytes, sector: 512) }
        if isLocked { try RBDLocking(target, cluster: image.cluster, own, options.log).lock(image) }
        image.waitForEver()
        self.name = name
        self.image = image
        self.isLocked = isLocked
        log = options.log
        var geometry = BlockGeometry(
            byteCount: bytes, physicalSectorSize: 4096, isReadOnly: options.readOnly, canFlush: !options.readOnly)
        if !options.readOnly {
            // What is smaller, and the edges of what is larger, librbd leaves as it is.
            let granularity = UInt32(clamping: image.number(of: "rbd_discard_granularity_bytes"))
            geometry.discard = DiscardLimits(granularity: max(granularity, 512))
            geometry.zeroes = .canUnmap
            // Without a cache whatever is answered is on the OSDs.
            geometry.writesDurably = true
        }
        current = Mutex(geometry)
        RBDOwnAddresses.add(image.address)
    }

    deinit { RBDOwnAddresses.remove(image.address) }

    /// As last read.
    public var geometry: BlockGeometry { current.withLock { $0 } }

    /// As last read: where somebody has changed the image it is asked, beside the caller, and says so at a later call.
    public func refreshGeometry() throws(Errno) -> BlockGeometry {
        let changes = image.changes
        if changes != changesSeen.load(ordering: .relaxed), !isProbing.exchange(true, ordering: .acquiring) {
            prober.run { [self] hasThread in
                if hasThread, let bytes = try? image.byteCount() {
                    resize(bytes)
                    changesSeen.store(changes, ordering: .relaxed)
                }
                isProbing.store(false, ordering: .releasing)
            }
        }
        return geometry
    }

    private func resize(_ bytes: UInt64) {
        current.withLock {
            $0.byteCount = bytes & ~511
            $0.partSector = bytes & 511
        }
        version.wrappingAdd(1, ordering: .releasing)
    }

    /// The one queue.
    public func openQueue(
        on reactor: Reactor, bus: MemoryBus, depth: Int, owner: any BlockQueueOwner
    ) throws(Errno) -> any BlockDeviceQueue {
        guard queues.wrappingAdd(1, ordering: .acquiringAndReleasing).newValue <= queueLimit else {
            queueClosed()
            throw .tooManyOpenFiles
        }
        let serial = serial.wrappingAdd(1, ordering: .relaxed).newValue
        return RBDQueue(disk: self, serial: serial, reactor: reactor, bus: bus, owner: owner)
    }

    /// What it had begun is the image's now, until it ends.
    func queueClosed() { queues.wrappingSubtract(1, ordering: .acquiringAndReleasing) }

    // MARK: What is said of it

    func say(_ line: String) { log("\(name): \(line)") }

    /// Whether the cluster has said that another may write here: then nothing is right any more of what this one would
    /// do, or has in memory.
    var isFenced: Bool { fence.load(ordering: .relaxed) }

    /// The cluster takes nothing from here any more.
    func fenced() {
        if fence.exchange(true, ordering: .relaxed) { return }
        say(
            "another client has its lock now, and the cluster takes nothing from here any more: requests fail until it is attached anew"
        )
    }
}

extension RBDPlace {
    /// As a user wrote it.
    init(_ target: RBDTarget) {
        self.init(
            pool: target.pool, nameSpace: target.nameSpace, image: target.image, snapshot: target.snapshot, user: target.user,
            configuration: target.configuration, options: target.options.map { Option(name: $0.name, value: $0.value) })
    }
}
