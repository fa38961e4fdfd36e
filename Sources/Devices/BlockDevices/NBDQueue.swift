// One connection to an NBD server, driven by the reactor: operations in, commands out, replies back. What happens when
// the server goes away is in NBDQueue+Absence.swift.

import DMA
import LibNBD
import LinuxSystem
import Reactor
import SharedMemory
import Synchronization

final class NBDQueue: BlockDeviceQueue, ReactorClient {
    enum Event: UInt32 { case readable = 0, writable, connected, retry, expired }

    let disk: NBDDisk
    let reactor: Reactor
    private let bus: MemoryBus
    private let depth: Int
    private var owner: (any BlockQueueOwner)?
    private(set) var slot: ReactorSlot?
    var handle: NBDConnection?
    /// Most bytes of one command on it.
    var largestTransfer: UInt64 = 0
    /// Nil: the server is there and answers.
    var absence: NBDAbsence?
    var attempt = NBDAttempt()
    let connector = BlockingWorker(name: "nbd-connect")
    /// Tells events of this connection from those of the one before.
    var epoch: UInt32 = 0
    private var isWaitingToRead = false
    private var isWaitingToWrite = false
    private var serial: UInt64 = 0
    /// What the connection has.
    private var issued: [ObjectIdentifier: NBDRequest] = [:]
    /// What waits for one, or for its turn; in order.
    private var held: [NBDRequest] = []
    private let finished = NBDFinishedList()
    private var isClosed = false
    private var waitsForNothing = false
    private(set) var statistics = DeviceStatistics()

    init(disk: NBDDisk, reactor: Reactor, bus: MemoryBus, depth: Int, owner: any BlockQueueOwner, handle: NBDConnection?) {
        self.disk = disk
        self.reactor = reactor
        self.bus = bus
        self.depth = max(depth, 1)
        self.owner = owner
        slot = reactor.attach(self)
        if let handle { adopt(handle) } else { beginAbsence(nil) }
    }

    var inFlight: Int { issued.count + held.count }

    func submit(_ operation: DeviceOperation, tag: UInt32, segments: Span<BusSegment>) -> DeviceResult? {
        statistics.submitted &+= 1
        if isClosed { return refuse(.canceled) }
        let direction: DMADirection = if case .read = operation { .fromDevice } else { .toDevice }
        let transfer = NBDTransfer(finished)
        guard transfer.vectors.load(segments, bus, direction) else { return refuse(.badAddress) }
        let geometry = disk.geometry
        if let refusal = geometry.refusal(of: operation, byteCount: transfer.vectors.total) { return refuse(refusal) }
        if operation == .flush && !geometry.canFlush {
            statistics.flushes &+= 1
            return .done
        }
        if let absence {
            if absence.hasGivenUp { return refuse(.ioError) }
            // It ends as the others did, and as they did from outside of this call.
            if waitsForNothing, let slot { reactor.notify(slot, tag: self.tag(.expired), result: 0) }
            self.absence?.waited += 1
        }
        let isWrite = if case .write = operation { true } else { false }
        guard transfer.prepareMemory(toWrite: isWrite) else { return refuse(.noMemory) }
        if transfer.isBounced { statistics.bounced &+= 1 }
        serial &+= 1
        held.append(
            NBDRequest(
                operation: operation, tag: tag, serial: serial, writesBefore: disk.writesSoFar, transfer: transfer,
                flight: bus.beginFlight()))
        issueHeld()
        return nil
    }

    func cancelAll() {
        guard handle != nil else { return failHeld(.canceled) }
        dropConnection()
        failHeld(.canceled)
        if absence == nil { beginAbsence(nil) } else { connect() }
    }

    func endWaiting() {
        waitsForNothing = true
        guard absence != nil else { return }
        dropConnection()
        failHeld(.canceled)
    }

    func close() {
        isClosed = true
        owner = nil
        endWaiting()
        if inFlight == 0 { leave() }
    }

    func completed(tag: UInt32, result: Int32) {
        guard let event = Event(rawValue: tag & 7) else { return }
        if event == .expired { return waitingIsOver() }
        guard tag >> 3 == epoch & 0x1FFF_FFFF else { return }
        switch event {
        case .readable:
            isWaitingToRead = false
            readReplies()
        case .writable:
            isWaitingToWrite = false
            if let handle, handle.direction.writes { handle.notifyWrite() }
        case .connected: attemptEnded()
        case .retry: connect()
        case .expired: break
        }
        settle()
    }

    func poll() -> Bool {
        if finished.isEmpty { return false }
        settle()
        return true
    }

    func prepareToSleep() -> Bool { !finished.isEmpty }

    // MARK: The connection

    /// Takes every reply that is there; libnbd reads one a call. It must not be called with nothing to read: it would
    /// stay in the middle of "a reply begins", and hold back every command until one does.
    private func readReplies() {
        guard let handle else { return }
        repeat {
            guard handle.direction.reads else { return }
            guard handle.notifyRead() else {
                // Said here, where the reason is still this thread's last error.
                if handle.isDead { connectionLost(handle.reasonOfEnd) }
                return
            }
        } while (try? waitReadable(handle.socket.rawValue, milliseconds: 0)) == true
    }

    /// Reports what has ended, then sees to it that the connection's next step wakes us.
    func settle() {
        deliverFinished()
        if let handle, handle.isDead { connectionLost(handle.reasonOfEnd) }
        issueHeld()
        guard let handle, let slot else { return }
        let direction = handle.direction
        if direction.reads && !isWaitingToRead {
            isWaitingToRead = true
            reactor.whenReadable(handle.socket, slot, tag: tag(.readable))
        }
        if direction.writes && !isWaitingToWrite {
            isWaitingToWrite = true
            reactor.whenWritable(handle.socket, slot, tag: tag(.writable))
        }
    }

    private func issueHeld() {
        guard let handle, !held.isEmpty else { return }
        var next = 0
        while next < held.count, issued.count < depth {
            let request = held[next]
            issued[ObjectIdentifier(request.transfer)] = request
            request.issue(on: handle, largest: largestTransfer)
            next += 1
        }
        held.removeFirst(next)
        armWriting(handle)
    }

    /// A command that did not fit into the socket goes on when there is room.
    private func armWriting(_ handle: NBDConnection) {
        guard let slot, !isWaitingToWrite else { return }
        if handle.direction.writes {
            isWaitingToWrite = true
            reactor.whenWritable(handle.socket, slot, tag: tag(.writable))
        }
    }

    /// Ends the connection; what it had not answered is held again, before what came later.
    func dropConnection() {
        guard let slot, let old = handle else { return }
        reactor.cancelWait(slot, tag: tag(.readable))
        reactor.cancelWait(slot, tag: tag(.writable))
        epoch &+= 1
        isWaitingToRead = false
        isWaitingToWrite = false
        handle = nil
        deliverAnswered()
        let unanswered = issued.values.sorted { $0.serial < $1.serial }.map { $0.repeated() }
        issued = [:]
        held = unanswered + held
        // What it still says of its commands is said of transfers that nobody looks for.
        withExtendedLifetime(old) {}
    }

    // MARK: Requests

    private func deliverFinished() {
        if deliverAnswered() { return }
        connectionLost(handle.flatMap { $0.isDead ? $0.reasonOfEnd : nil } ?? "the server is shutting down")
    }

    /// Reports what the server has answered; false if it said that it is going, or is gone: what it did not answer
    /// stays with the connection.
    @discardableResult
    private func deliverAnswered() -> Bool {
        var isThere = true
        while !finished.isEmpty {
            for transfer in finished.takeAll() where issued[ObjectIdentifier(transfer)] != nil {
                guard let error = transfer.error else {
                    end(transfer, .done)
                    continue
                }
                // An error that the server answers is an answer; these say that there was none.
                if error.isOfAPeerThatIsAway { isThere = false } else { end(transfer, .failed(error)) }
            }
        }
        return isThere
    }

    /// Ends everything that waits.
    func failHeld(_ error: Errno) {
        let requests = held
        held = []
        for request in requests {
            issued[ObjectIdentifier(request.transfer)] = request
            finish(request.transfer, .failed(error))
        }
    }

    private func end(_ transfer: NBDTransfer, _ result: DeviceResult) {
        if absence != nil { serverAnswers() }
        finish(transfer, result)
    }

    private func finish(_ transfer: NBDTransfer, _ result: DeviceResult) {
        guard let request = issued.removeValue(forKey: ObjectIdentifier(transfer)) else { return }
        if result == .done {
            switch request.operation {
            case .read: transfer.takeBounced()
            // No flush has to cover it.
            case .write(_, isDurable: true): break
            case .write, .writeZeroes, .discard: disk.countWrite()
            case .flush: disk.countFlush(covering: request.writesBefore)
            }
        }
        bus.endFlight(request.flight)
        statistics.count(request.operation, byteCount: transfer.vectors.total, result)
        owner?.deviceCompleted(tag: request.tag, result: result)
        if isClosed && inFlight == 0 { leave() }
    }

    private func refuse(_ error: Errno) -> DeviceResult {
        statistics.errors &+= 1
        return .failed(error)
    }

    func tag(_ event: Event) -> UInt32 { (epoch & 0x1FFF_FFFF) << 3 | event.rawValue }

    /// Whether nobody waits for what is away.
    var isForsaken: Bool { waitsForNothing }

    private func leave() {
        guard let slot = self.slot.take() else { return }
        attempt.abandon()
        let last = absence == nil ? handle.take() : nil
        handle = nil
        reactor.detach(slot)
        if let absence, absence.isTold { disk.left() }
        disk.queueClosed(last)
    }
}
