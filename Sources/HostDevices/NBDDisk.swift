// A disk that an NBD server serves: nbdkit, qemu-nbd, qemu-storage-daemon, and through them qcow2, Ceph, S3 and so on.

import DMA
import LinuxSystem
import Reactor
import Synchronization

/// How long a queue tries to get its server back.
public struct NBDReconnect: Sendable, Equatable {
    /// Attempts before requests fail at once; then one attempt a second goes on as long as requests come.
    public var attempts: Int
    /// Before the second attempt; doubled for each further one, up to two seconds.
    public var firstDelayMilliseconds: UInt64
    /// For connecting and negotiating, each time.
    public var timeoutMilliseconds: Int32
    /// Ten attempts from 50 ms on, five seconds for each.
    public init(attempts: Int = 10, firstDelayMilliseconds: UInt64 = 50, timeoutMilliseconds: Int32 = 5000) {
        self.attempts = attempts
        self.firstDelayMilliseconds = firstDelayMilliseconds
        self.timeoutMilliseconds = timeoutMilliseconds
    }
}

/// A disk behind an NBD URI. Each queue has a connection of its own.
public final class NBDDisk: BlockDevice {
    /// The URI.
    public let name: String
    let reconnect: NBDReconnect
    let largestTransfer: UInt64
    /// Where several connections are not coherent, and something is written, there is one queue.
    public let queueLimit: Int
    private let readOnly: Bool
    private let current: Mutex<BlockGeometry>
    /// The connection that the geometry was read from, for the first queue.
    private let spare: Mutex<NBDHandle?>
    private let queues = Atomic<Int>(0)
    let worker = BlockingWorker(name: "nbd-connect")

    /// Connects to `uri` (`nbd://`, `nbds://`, `nbd+unix://`, `nbds+unix://`, `nbd+vsock://`) and reads what the disk is like. Blocks for as
    /// long as `reconnect` allows one attempt.
    public init(uri: String, readOnly: Bool = false, reconnect: NBDReconnect = NBDReconnect()) throws(DeviceError) {
        name = uri
        self.readOnly = readOnly
        self.reconnect = reconnect
        let handle = try NBDHandle.connect(uri, milliseconds: reconnect.timeoutMilliseconds)
        let geometry = try handle.geometry(uri: uri, readOnly: readOnly)
        if geometry.isReadOnly && !readOnly { throw .readOnly(name: uri) }
        queueLimit = geometry.isReadOnly || handle.canMultiConnect ? .max : 1
        largestTransfer = handle.largestTransfer
        current = Mutex(geometry)
        spare = Mutex(handle)
    }

    /// As last read.
    public var geometry: BlockGeometry { current.withLock { $0 } }

    /// NBD tells the size when connecting, and only then: asks with a connection of its own. Blocks; EIO if there is none.
    public func refreshGeometry() throws(Errno) -> BlockGeometry {
        do throws(DeviceError) {
            let handle = try NBDHandle.connect(name, milliseconds: reconnect.timeoutMilliseconds)
            let geometry = try handle.geometry(uri: name, readOnly: readOnly)
            current.withLock { $0 = geometry }
            return geometry
        } catch { throw .inputOutput }
    }

    /// A queue with a connection; it may still be connecting when this returns, and requests wait for that.
    public func openQueue(
        on reactor: Reactor, bus: MemoryBus, depth: Int, owner: any BlockQueueOwner
    ) throws(Errno) -> any BlockDeviceQueue {
        if queues.wrappingAdd(1, ordering: .relaxed).newValue > queueLimit {
            queues.wrappingSubtract(1, ordering: .relaxed)
            throw .tooMany
        }
        return NBDQueue(disk: self, reactor: reactor, bus: bus, depth: depth, owner: owner, handle: spare.withLock { $0.take() })
    }

    func queueClosed() { queues.wrappingSubtract(1, ordering: .relaxed) }

    /// A new connection; only to the same disk: one that has shrunk or become read-only is another.
    func connectAgain() -> NBDHandle? {
        guard let handle = try? NBDHandle.connect(name, milliseconds: reconnect.timeoutMilliseconds),
            let found = try? handle.geometry(uri: name, readOnly: readOnly)
        else { return nil }
        let known = geometry
        let isSame =
            found.byteCount >= known.byteCount && found.isReadOnly == known.isReadOnly
            && found.logicalSectorSize <= known.logicalSectorSize && handle.largestTransfer >= largestTransfer
        return isSame ? handle : nil
    }
}
