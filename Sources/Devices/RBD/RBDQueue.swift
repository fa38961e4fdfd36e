// The reactor's way to an image: operations in, librbd's requests out, completions back. What happens while the cluster
// does not answer is in RBDQueue+Waiting.swift.

import BlockDevices
import DMA
import LibRBD
import LinuxSystem
import Reactor
import SharedMemory
import Synchronization

/// One operation's record, used again.
final class RBDRequest {
    var operation = DeviceOperation.flush
    var tag: UInt32 = 0
    var transfer = RBDTransfer()
    /// A read's: its pages are written when it ends.
    var flight: Flight?
    var isActive = false
}

final class RBDQueue: BlockDeviceQueue, ReactorClient {
    enum Event: UInt32 { case bell = 0, second }

    let disk: RBDDisk
    /// Tells its transfers from those of queues before it.
    private let serial: Int
    let reactor: Reactor
    private let bus: MemoryBus
    private var owner: (any BlockQueueOwner)?
    private(set) var slot: ReactorSlot?
    private var geometry: BlockGeometry
    private var geometryVersion: Int
    private var requests: [RBDRequest] = []
    private var free: [Int] = []
    private(set) var inFlight = 0
    /// Answers of the cluster's.
    private(set) var answers: UInt64 = 0
    private var isBellArmed = false
    private var isClosed = false
    var silence = RBDSilence()
    private(set) var statistics = DeviceStatistics()

    init(disk: RBDDisk, serial: Int, reactor: Reactor, bus: MemoryBus, owner: any BlockQueueOwner) {
        self.disk = disk
        self.serial = serial
        self.reactor = reactor
        self.bus = bus
        self.owner = owner
        geometryVersion = disk.version.load(ordering: .acquiring)
        geometry = disk.geometry
        slot = reactor.attach(self)
    }

    func submit(_ operation: DeviceOperation, tag: UInt32, segments: Span<BusSegment>) -> DeviceResult? {
        statistics.submitted &+= 1
        guard let slot, !isClosed else { return refuse(.canceled) }
        if disk.isFenced { return refuse(.ioError) }
        let number = free.popLast() ?? newRequest()
        let request = requests[number]
        let direction: DMADirection = if case .read = operation { .fromDevice } else { .toDevice }
        guard request.transfer.vectors.load(segments, bus, direction) else { return refuse(.badAddress, number) }
        if let refusal = refusal(of: operation, byteCount: request.transfer.vectors.total) { return refuse(refusal, number) }
        if operation == .flush && !geometry.canFlush {
            free.append(number)
            statistics.flushes &+= 1
            return .done
        }
        request.operation = operation
        request.tag = tag
        request.transfer.owner = serial
        request.transfer.number = number
        if let error = begin(request) { return refuse(error, number) }
        if case .read = operation { request.flight = bus.beginFlight() }
        request.isActive = true
        inFlight += 1
        listen(slot)
        return nil
    }

    private func begin(_ request: RBDRequest) -> Errno? {
        let (image, transfer) = (disk.image, request.transfer)
        switch request.operation {
        case .read(let offset): return image.read(transfer, at: offset)
        case .write(let offset, _): return image.write(transfer, at: offset)
        case .flush: return image.flush(transfer)
        case .discard(let offset, let byteCount, _): return image.discard(transfer, at: offset, byteCount: byteCount)
        case .writeZeroes(let offset, let byteCount, let mayUnmap):
            return image.zero(transfer, at: offset, byteCount: byteCount, keepsRoom: !mayUnmap)
        }
    }

    private func refusal(of operation: DeviceOperation, byteCount: UInt64) -> Errno? {
        let version = disk.version.load(ordering: .acquiring)
        if version != geometryVersion {
            geometryVersion = version
            geometry = disk.geometry
        }
        return geometry.refusal(of: operation, byteCount: byteCount)
    }

    private func refuse(_ error: Errno, _ number: Int? = nil) -> DeviceResult {
        if let number { free.append(number) }
        statistics.errors &+= 1
        return .failed(error)
    }

    private func newRequest() -> Int {
        requests.append(RBDRequest())
        return requests.count - 1
    }

    // MARK: The reactor's calls

    func completed(tag: UInt32, result: Int32) {
        switch Event(rawValue: tag) {
        case .bell:
            isBellArmed = false
            _ = reap()
        case .second: secondHasPassed()
        case nil: break
        }
    }

    /// While the thread is awake nobody needs to wake it.
    func poll() -> Bool { reap() }

    func prepareToSleep() -> Bool {
        guard let slot, inFlight > 0, !isBellArmed else { return false }
        // What ends after this is counted again.
        disk.image.quietBell()
        if reap() { return true }
        isBellArmed = true
        reactor.whenReadable(disk.image.bell, slot, tag: Event.bell.rawValue)
        return false
    }

    private func reap() -> Bool {
        disk.image.reap { transfer, result in
            answers &+= 1
            // One that a queue before this one had begun, or that nobody waited for any more.
            guard transfer.owner == serial else { return }
            ended(transfer.number, result)
        }
    }

    // MARK: Ends

    private func ended(_ number: Int, _ result: Int64) {
        let request = requests[number]
        let outcome = outcome(of: request, result)
        if case .read = request.operation, outcome == .done { request.transfer.takeRead() }
        finish(number, outcome)
        if silence.isTold { answersAgain() }
    }

    private func finish(_ number: Int, _ result: DeviceResult) {
        let request = requests[number]
        request.isActive = false
        inFlight -= 1
        if let flight = request.flight.take() { bus.endFlight(flight) }
        statistics.count(request.operation, byteCount: request.transfer.vectors.total, result)
        request.transfer.rest()
        let tag = request.tag
        free.append(number)
        owner?.deviceCompleted(tag: tag, result: result)
    }

    private func outcome(of request: RBDRequest, _ result: Int64) -> DeviceResult {
        if result >= 0 {
            // Fewer bytes than were asked for: the image has become smaller under it.
            if case .read = request.operation, UInt64(result) < request.transfer.vectors.total { return .failed(.ioError) }
            return .done
        }
        switch Errno(Int32(clamping: -result)) {
        case .shutdown:
            disk.fenced()
            return .failed(.ioError)
        case .readOnlyFileSystem where disk.isLocked:
            disk.fenced()
            return .failed(.ioError)
        // A pool's quota, which a disk's user knows nothing of.
        case .quotaExceeded: return .failed(.noSpace)
        case let error: return .failed(error)
        }
    }

    /// Lets go of what is in flight, which goes on without anybody: a write may still be done. The pages are free at
    /// once.
    func abandon(_ error: Errno) {
        for (number, request) in requests.enumerated() where request.isActive {
            request.transfer.owner = 0
            request.transfer = RBDTransfer()
            finish(number, .failed(error))
        }
    }

    func endWaiting() { silence.endsWaiting = true }

    func close() {
        isClosed = true
        owner = nil
        abandon(.canceled)
        guard let slot = self.slot.take() else { return }
        reactor.detach(slot)
        disk.queueClosed()
    }
}

extension Errno {
    /// The cluster refuses this client (ESHUTDOWN; Ceph's EBLOCKLISTED).
    static var shutdown: Errno { Errno(108) }
    /// A quota's room is used up (EDQUOT).
    static var quotaExceeded: Errno { Errno(122) }
}
