// A disk that an NBD server serves: nbdkit, qemu-nbd, qemu-storage-daemon, and through them qcow2, Ceph, S3 and so on.

import DMA
import LibNBD
import LinuxSystem
import Reactor
import Synchronization

/// A disk behind an NBD URI. Each queue has a connection of its own; one whose server goes away waits for it, and asks
/// again for all that was not answered.
public final class NBDDisk: BlockDevice {
    /// The URI.
    public let name: String
    let reconnect: NBDReconnect
    /// Where the server does not say that several connections see each other's writes, or serves one client only (as
    /// qemu-nbd without `--shared`), there is one queue.
    public let queueLimit: Int
    private let readOnly: Bool
    let time: any TimeSource
    private let log: @Sendable (String) -> Void
    private let current: Mutex<BlockGeometry>
    /// A connection that no queue has: that which the geometry was read from, or the last one's of a queue that closed.
    private let spare: Mutex<NBDConnection?>
    private let outage = Mutex<NBDOutage?>(nil)
    private let queues = Atomic<Int>(0)
    private let isProbing = Atomic<Bool>(false)
    /// Writes, zeroes and discards that were answered, and how many of them a flush has covered.
    private let answeredWrites = Atomic<UInt64>(0)
    private let flushedWrites = Atomic<UInt64>(0)
    private let prober = BlockingWorker(name: "nbd-size")

    /// Connects to `uri` (`nbd://`, `nbds://`, `nbd+unix://`, `nbds+unix://`, `nbd+vsock://`) and reads what the disk
    /// is like. Blocks for as long as `reconnect` allows one attempt, by `time`: the first server is not waited for.
    /// - Parameter log: gets a line when the server is lost, when it is back, and when it is waited for no longer; from
    ///   any thread.
    public init(
        uri: String, readOnly: Bool = false, reconnect: NBDReconnect = NBDReconnect(), time: some TimeSource,
        log: @escaping @Sendable (String) -> Void = { _ in }
    ) throws(DeviceError) {
        name = uri
        self.readOnly = readOnly
        self.reconnect = reconnect
        self.time = time
        self.log = log
        let handle: NBDConnection
        do throws(NBDError) {
            handle = try NBDConnection.connect(uri, milliseconds: reconnect.timeoutMilliseconds, time)
        } catch { throw error.mayPass ? .away(name: uri, reason: error.reason) : .nbd(uri: uri, reason: error.reason) }
        let geometry = try handle.geometry(uri: uri, readOnly: readOnly)
        if geometry.isReadOnly && !readOnly { throw .readOnly(name: uri) }
        queueLimit = handle.canMultiConnect ? .max : 1
        current = Mutex(geometry)
        spare = Mutex(handle)
    }

    /// As last read.
    public var geometry: BlockGeometry { current.withLock { $0 } }

    /// As last read: NBD tells the size when connecting, and only then. Where the server takes more than one connection
    /// this has one made, beside the caller; what it says is there at a later call.
    public func refreshGeometry() throws(Errno) -> BlockGeometry {
        if queueLimit > 1, !isAway, !isProbing.exchange(true, ordering: .relaxed) {
            prober.run { [self] hasThread in
                if hasThread, case .refused(let reason) = connectAgain(isWanted: { true }) { refused(reason) }
                isProbing.store(false, ordering: .relaxed)
            }
        }
        return geometry
    }

    /// A queue with a connection; it may still be connecting when this returns, and requests wait for that.
    public func openQueue(
        on reactor: Reactor, bus: MemoryBus, depth: Int, owner: any BlockQueueOwner
    ) throws(Errno) -> any BlockDeviceQueue {
        if queues.wrappingAdd(1, ordering: .relaxed).newValue > queueLimit {
            queues.wrappingSubtract(1, ordering: .relaxed)
            throw .tooManyOpenFiles
        }
        return NBDQueue(disk: self, reactor: reactor, bus: bus, depth: depth, owner: owner, handle: spare.withLock { $0.take() })
    }

    /// A queue has closed; its connection is kept for the next one, for there are servers that end with their client.
    func queueClosed(_ handle: NBDConnection?) {
        queues.wrappingSubtract(1, ordering: .relaxed)
        if let handle { spare.withLock { $0 = $0 ?? handle } }
    }

    // MARK: Coming back

    /// What an attempt came to.
    enum Attempt {
        case connected(NBDConnection)
        case failed(String)
        /// Something is there that is not the disk that it was.
        case refused(String)
    }

    /// A new connection to the same disk.
    func connectAgain(isWanted: () -> Bool) -> Attempt {
        let handle: NBDConnection
        do throws(NBDError) {
            handle = try NBDConnection.connect(name, milliseconds: reconnect.timeoutMilliseconds, time, isWanted: isWanted)
        } catch { return .failed(error.reason) }
        let found: BlockGeometry
        do throws(DeviceError) { found = try handle.geometry(uri: name, readOnly: readOnly) } catch {
            return .refused(error.reason)
        }
        return current.withLock { known in
            if let difference = difference(found, from: known, handle) { return .refused(difference) }
            known.byteCount = found.byteCount
            if known.discard != nil { known.discard = found.discard }
            if known.zeroes != nil { known.zeroes = found.zeroes }
            return .connected(handle)
        }
    }

    /// Why a disk that comes back as `found` cannot be the one that it was; one that has grown can.
    private func difference(_ found: BlockGeometry, from known: BlockGeometry, _ handle: NBDConnection) -> String? {
        if found.byteCount < known.byteCount { return "it holds \(found.byteCount) bytes, not \(known.byteCount)" }
        if found.isReadOnly != known.isReadOnly { return "it can only be read" }
        if found.logicalSectorSize > known.logicalSectorSize {
            return "it has sectors of \(found.logicalSectorSize) bytes, not \(known.logicalSectorSize)"
        }
        if known.canFlush && !found.canFlush { return "it cannot flush" }
        if queues.load(ordering: .relaxed) > 1 && !handle.canMultiConnect {
            return "its connections do not see each other's writes"
        }
        return nil
    }

    // MARK: What is said of it

    /// What a flush that begins now covers.
    var writesSoFar: UInt64 { answeredWrites.load(ordering: .relaxed) }
    func countWrite() { answeredWrites.add(1, ordering: .relaxed) }
    func countFlush(covering writes: UInt64) { flushedWrites.max(writes, ordering: .relaxed) }

    /// How many writes no flush has covered; with their server they are out of a later flush's reach.
    private func takeUnflushed() -> UInt64 {
        let all = writesSoFar
        let flushed = flushedWrites.max(all, ordering: .relaxed).oldValue
        return all > flushed ? all - flushed : 0
    }

    private var isAway: Bool { outage.withLock { $0 != nil } }

    /// A queue has lost its connection.
    func lost(_ reason: String) {
        tell { outage in
            var current = outage ?? NBDOutage(since: time.nanoseconds, unflushed: takeUnflushed())
            defer { outage = current }
            return current.lost(reason, reconnect.delayMilliseconds)
        }
    }

    /// What was found is another disk.
    func refused(_ reason: String) {
        tell { outage in
            if outage != nil { return outage?.refused(reason) }
            // A look at the size: the connections that there are go on.
            return known(refusal: reason) ? nil : "another disk is in its place for new connections: \(reason)"
        }
    }

    /// A queue fails what has waited.
    func gaveUp(_ requests: Int) { tell { $0?.gaveUp(requests, reconnect.delayMilliseconds) } }

    /// A queue is connected again.
    func back(_ requests: Int) {
        tell { outage in
            defer { if outage?.isOver ?? true { outage = nil } }
            return outage?.back(requests, now: time.nanoseconds)
        }
    }

    /// A queue that was lost has closed.
    func left() {
        tell { outage in
            outage?.left()
            if outage?.isOver ?? true { outage = nil }
            return nil
        }
    }

    private let lastRefusal = Mutex("")
    private func known(refusal: String) -> Bool {
        lastRefusal.withLock { last in
            defer { last = refusal }
            return last == refusal
        }
    }

    private func tell(_ change: (inout NBDOutage?) -> String?) {
        if let line = outage.withLock({ change(&$0) }) { log("\(name): \(line)") }
    }
}
