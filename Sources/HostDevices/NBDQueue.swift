// One connection to an NBD server, driven by the reactor. When the server dies, what it had not answered fails with EIO, since nobody
// knows whether it was done; what comes meanwhile waits while the connection is tried again, a bounded number of times.

import CNBD
import DMA
import LinuxSystem
import Reactor
import Synchronization

/// Where the connecting thread puts what it got.
private final class ConnectionBox: Sendable {
    let handle = Mutex<NBDHandle?>(nil)
}

final class NBDQueue: BlockDeviceQueue, ReactorClient {
    private enum State: Equatable { case ready, connecting, pausing, failed }
    private enum Event: UInt32 { case readable = 0, writable, connected, retry }

    private let disk: NBDDisk
    private let reactor: Reactor
    private let bus: MemoryBus
    private let depth: Int
    private var owner: (any BlockQueueOwner)?
    private var slot: ReactorSlot?
    private var handle: NBDHandle?
    private var state = State.connecting
    private var box = ConnectionBox()
    private var attempts = 0
    private var delay: UInt64
    /// Tells events of this connection from those of the one before.
    private var epoch: UInt32 = 0
    private var isWaitingToRead = false
    private var isWaitingToWrite = false
    private var issued: [ObjectIdentifier: NBDRequest] = [:]
    private var held: [NBDRequest] = []
    private let finished = FinishedList()
    private var isClosed = false
    private(set) var statistics = DeviceStatistics()

    init(disk: NBDDisk, reactor: Reactor, bus: MemoryBus, depth: Int, owner: any BlockQueueOwner, handle: NBDHandle?) {
        self.disk = disk
        self.reactor = reactor
        self.bus = bus
        self.depth = max(depth, 1)
        self.owner = owner
        delay = disk.reconnect.firstDelayMilliseconds
        slot = reactor.attach(self)
        if let handle { adopt(handle) } else { connect() }
    }

    var inFlight: Int { issued.count + held.count }

    func submit(_ operation: DeviceOperation, tag: UInt32, segments: Span<BusSegment>) -> DeviceResult? {
        statistics.submitted &+= 1
        if isClosed { return refuse(.canceled) }
        let direction: DMADirection = if case .read = operation { .fromDevice } else { .toDevice }
        let request = NBDRequest(operation, tag, VectorList(), finished)
        guard request.vectors.load(segments, bus, direction) else { return refuse(.badAddress) }
        let geometry = disk.geometry
        if let refusal = geometry.refusal(of: operation, byteCount: request.vectors.total) { return refuse(refusal) }
        if operation == .flush && !geometry.canFlush {
            statistics.flushes &+= 1
            return .done
        }
        if state == .failed {
            pauseBeforeRetry(milliseconds: 1000)
            return refuse(.inputOutput)
        }
        if state == .pausing && attempts > disk.reconnect.attempts { return refuse(.inputOutput) }
        guard request.prepareMemory() else { return refuse(.noMemory) }
        if request.bounce != nil { statistics.bounced &+= 1 }
        request.flight = bus.beginFlight()
        held.append(request)
        issueHeld()
        return nil
    }

    func cancelAll() {
        if handle != nil { connectionLost(.canceled) }
    }

    func close() {
        isClosed = true
        owner = nil
        if inFlight == 0 { leave() }
    }

    func completed(tag: UInt32, result: Int32) {
        guard let event = Event(rawValue: tag & 3), tag >> 2 == epoch & 0x3FFF_FFFF else { return }
        switch event {
        case .readable:
            isWaitingToRead = false
            readReplies()
        case .writable:
            isWaitingToWrite = false
            if let handle, unsafe nbd_aio_get_direction(handle.raw) & UInt32(LIBNBD_AIO_DIRECTION_WRITE) != 0 {
                _ = unsafe nbd_aio_notify_write(handle.raw)
            }
        case .connected:
            if let handle = box.handle.withLock({ $0.take() }) { adopt(handle) } else { connectFailed() }
        case .retry: if state == .pausing { connect() }
        }
        settle()
    }

    func poll() -> Bool {
        if finished.requests.isEmpty { return false }
        settle()
        return true
    }

    func prepareToSleep() -> Bool { !finished.requests.isEmpty }

    // The connection.

    /// Takes every reply that is there; libnbd reads one a call. It must not be called with nothing to read: it would stay in the middle of
    /// "a reply begins", and hold back every command until one does.
    private func readReplies() {
        guard let handle else { return }
        repeat {
            if unsafe nbd_aio_get_direction(handle.raw) & UInt32(LIBNBD_AIO_DIRECTION_READ) == 0 { return }
            if unsafe nbd_aio_notify_read(handle.raw) == -1 { return }
        } while (try? waitReadable(handle.socket.rawValue, milliseconds: 0)) == true
    }

    /// Reports what has ended, then sees to it that the connection's next step wakes us.
    private func settle() {
        deliverFinished()
        if let handle, handle.isDead { connectionLost(.inputOutput) }
        issueHeld()
        guard let handle, let slot else { return }
        let direction = unsafe nbd_aio_get_direction(handle.raw)
        if direction & UInt32(LIBNBD_AIO_DIRECTION_READ) != 0 && !isWaitingToRead {
            isWaitingToRead = true
            reactor.whenReadable(handle.socket, slot, tag: tag(.readable))
        }
        if direction & UInt32(LIBNBD_AIO_DIRECTION_WRITE) != 0 && !isWaitingToWrite {
            isWaitingToWrite = true
            reactor.whenWritable(handle.socket, slot, tag: tag(.writable))
        }
    }

    private func issueHeld() {
        guard state == .ready, let handle, !held.isEmpty else { return }
        var next = 0
        while next < held.count, issued.count < depth {
            let request = held[next]
            issued[ObjectIdentifier(request)] = request
            request.issue(on: handle, largest: disk.largestTransfer)
            next += 1
        }
        held.removeFirst(next)
        armWriting(handle)
    }

    /// A command that did not fit into the socket goes on when there is room.
    private func armWriting(_ handle: NBDHandle) {
        guard let slot, !isWaitingToWrite else { return }
        if unsafe nbd_aio_get_direction(handle.raw) & UInt32(LIBNBD_AIO_DIRECTION_WRITE) != 0 {
            isWaitingToWrite = true
            reactor.whenWritable(handle.socket, slot, tag: tag(.writable))
        }
    }

    private func adopt(_ newHandle: NBDHandle) {
        handle = newHandle
        state = .ready
        attempts = 0
        delay = disk.reconnect.firstDelayMilliseconds
        settle()
    }

    private func connect() {
        guard let slot else { return }
        state = .connecting
        attempts += 1
        let box = ConnectionBox()
        self.box = box
        let event = tag(.connected)
        let (disk, reactor) = (self.disk, self.reactor)
        disk.worker.run { hasThread in
            if hasThread, let handle = disk.connectAgain() { box.handle.withLock { $0 = handle } }
            reactor.notify(slot, tag: event, result: 0)
        }
    }

    private func connectFailed() {
        if attempts >= disk.reconnect.attempts {
            state = .failed
            failHeld(.inputOutput)
        } else {
            pauseBeforeRetry(milliseconds: delay)
            delay = min(delay * 2, 2000)
        }
    }

    private func pauseBeforeRetry(milliseconds: UInt64) {
        guard let slot else { return }
        if state == .failed { attempts = disk.reconnect.attempts + 1 }
        state = .pausing
        reactor.after(microseconds: milliseconds * 1000, slot, tag: tag(.retry))
    }

    private func connectionLost(_ error: Errno) {
        guard let slot else { return }
        reactor.cancelWait(slot, tag: tag(.readable))
        reactor.cancelWait(slot, tag: tag(.writable))
        epoch &+= 1
        isWaitingToRead = false
        isWaitingToWrite = false
        // Closing ends every command; those that libnbd had not reported yet are reported now, as not connected.
        handle = nil
        deliverFinished(lost: error)
        for request in Array(issued.values) { end(request, .failed(error)) }
        if isClosed && inFlight == 0 { return }
        connect()
    }

    // Requests.

    private func deliverFinished(lost: Errno? = nil) {
        while !finished.requests.isEmpty {
            let requests = finished.requests
            finished.requests = []
            for request in requests {
                guard let error = request.error else {
                    end(request, .done)
                    continue
                }
                end(request, .failed(Self.meaning(of: error, lost: lost)))
            }
        }
    }

    /// A lost connection is an I/O error to whoever uses the disk; what the server itself said is passed on.
    private static func meaning(of error: Errno, lost: Errno?) -> Errno {
        switch error.rawValue {
        case 107 /* ENOTCONN */, 108 /* ESHUTDOWN */, 104 /* ECONNRESET */, 32 /* EPIPE */: lost ?? .inputOutput
        default: error
        }
    }

    private func failHeld(_ error: Errno) {
        let requests = held
        held = []
        for request in requests {
            issued[ObjectIdentifier(request)] = request
            end(request, .failed(error))
        }
    }

    private func end(_ request: NBDRequest, _ result: DeviceResult) {
        guard issued.removeValue(forKey: ObjectIdentifier(request)) != nil else { return }
        if result == .done, case .read = request.operation, let bounce = request.bounce {
            unsafe request.vectors.scatter(from: bounce.base)
        }
        if let flight = request.flight.take() { bus.endFlight(flight) }
        statistics.count(request.operation, byteCount: request.vectors.total, result)
        owner?.deviceCompleted(tag: request.tag, result: result)
        if isClosed && inFlight == 0 { leave() }
    }

    private func refuse(_ error: Errno) -> DeviceResult {
        statistics.errors &+= 1
        return .failed(error)
    }

    private func tag(_ event: Event) -> UInt32 { (epoch & 0x3FFF_FFFF) << 2 | event.rawValue }

    private func leave() {
        guard let slot = self.slot.take() else { return }
        handle = nil
        reactor.detach(slot)
        disk.queueClosed()
    }
}
