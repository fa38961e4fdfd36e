// One queue of an interface on its reactor: a device queue, and while a backend is there both sides of its rings. On
// the reactor's thread, but for `statistics`.

import DMA
import DeviceFaults
import DriverRuntime
import Hypervisor
import LinuxSystem
import NetworkDevices
import NetworkProtocol
import Reactor
import RingFaults
import SharedMemory
import Synchronization

/// One queue.
final class FrontendQueue {
    /// What there is only while a backend is there.
    private struct Connection: ~Copyable {
        var transmit: TransmitSide
        var receive: ReceiveSide
        var bell: Doorbell
        var receiveBell: Doorbell?
    }

    /// What completions of one queue are called: its place times eight, and one of these.
    private enum Tag {
        static let bell: UInt32 = 0
        static let bellPause: UInt32 = 1
        static let receiveBell: UInt32 = 2
        static let receiveBellPause: UInt32 = 3
        static let readable: UInt32 = 4
        static let writable: UInt32 = 5
    }

    private let base: UInt32
    private let pages: QueuePages
    private let bus = MemoryBus()
    private let device: any NetworkDeviceQueue
    /// What the transmitting side looks at first.
    private let scratch: SharedRegion
    /// What the receiving side sends first of each frame.
    private let heads: SharedRegion
    private var connection: Connection?
    private var waitsReadable = false
    private var waitsWritable = false
    private var earlier: FrontendQueueStatistics
    /// What goes wrong on purpose, with the clock by which; nil: nothing.
    private var faults: (book: FaultBook, time: any TimeSource)?
    private let snapshot = Mutex(FrontendQueueStatistics())

    /// - Parameter place: among the queues of its reactor's client.
    init(place: Int, _ device: any NetworkDevice, _ pages: QueuePages, earlier: FrontendQueueStatistics) throws(Errno) {
        base = UInt32(place) * 8
        self.earlier = earlier
        snapshot.withLock { $0 = earlier }
        self.pages = pages
        // Mostly never touched: the kernel gives pages only to what is used.
        scratch = try SharedRegion(anonymous: SharedRegion.wholePages(NetworkLimits.maximumPacketSize))
        heads = try SharedRegion(anonymous: SharedRegion.wholePages(ReceiveSide.headBytes))
        self.device = try device.openQueue(bus: bus)
    }

    var statistics: FrontendQueueStatistics { snapshot.withLock { $0 } }

    func connect(_ link: QueueLink) {
        disconnect()
        var new = Connection(
            transmit: TransmitSide(link, pages, device, bus, scratch: scratch),
            receive: ReceiveSide(link, pages, device, bus, heads: heads),
            bell: Doorbell(link.bell, bellTag: base + Tag.bell, pauseTag: base + Tag.bellPause),
            receiveBell: link.receiveBell.map {
                Doorbell($0, bellTag: base + Tag.receiveBell, pauseTag: base + Tag.receiveBellPause)
            })
        tamper(&new)
        publish(&new)
        connection = consume new
    }

    /// Does wrong from now on what is set, and no more what is not.
    func spoil(by book: FaultBook, _ time: any TimeSource) {
        let wasHonest = faults == nil
        faults = book.isEmpty ? nil : (book, time)
        guard wasHonest || faults == nil, var now = connection.take() else { return }
        tamper(&now)
        connection = consume now
    }

    /// What a ring is lied about is forgotten with it.
    private func tamper(_ now: inout Connection) {
        now.transmit.ring.tamper = faults.map { RingSpoiler($0.book, .transmitRequests, toward: .back, time: $0.time) }
        now.receive.ring.tamper = faults.map { RingSpoiler($0.book, .receiveRequests, toward: .front, time: $0.time) }
    }

    func disconnect() {
        guard let old = connection.take() else { return }
        earlier = sum(old)
        let final = earlier
        snapshot.withLock { $0 = final }
        bus.detach(pages.transmit.region)
        bus.detach(pages.receive.region)
        bus.detach(scratch)
        bus.detach(heads)
    }

    func close() { device.close() }

    func work() throws(FrontendFault) -> Bool {
        guard var now = connection.take() else { return false }
        let result: Result<Bool, FrontendFault>
        do throws(FrontendFault) { result = .success(try turn(&now)) } catch { result = .failure(error) }
        // Also after a fault: whoever disconnects finds everything in its place.
        connection = consume now
        return try result.get()
    }

    private func turn(_ now: inout Connection) throws(FrontendFault) -> Bool {
        let sent = try now.transmit.work()
        if sent > 0 { now.bell.foundWork() }
        let received = try now.receive.work()
        if received > 0 { if now.receiveBell == nil { now.bell.foundWork() } else { now.receiveBell?.foundWork() } }
        publish(&now)
        if sent + received == 0 { return false }
        let final = sum(now)
        snapshot.withLock { $0 = final }
        return true
    }

    private func publish(_ now: inout Connection) {
        if now.transmit.ring.publish() {
            now.bell.channel.notify()
            now.transmit.statistics.notificationsSent &+= 1
        }
        if now.receive.ring.publish() {
            ringReceive(&now)
            now.receive.statistics.notificationsSent &+= 1
        }
    }

    /// Rings once more for what the backend has been shown and, by its own word, not heard of.
    func ringAgain() {
        guard var now = connection.take() else { return }
        if now.transmit.ring.hasUnheardRequests { now.bell.channel.notify() }
        if now.receive.ring.hasUnheardRequests { ringReceive(&now) }
        connection = consume now
    }

    private func ringReceive(_ now: inout Connection) {
        if now.receiveBell == nil { now.bell.channel.notify() } else { now.receiveBell?.channel.notify() }
    }

    func prepareToSleep(_ reactor: Reactor, _ slot: ReactorSlot) -> Bool {
        guard var now = connection.take() else { return false }
        let hasWork = arm(&now, reactor, slot)
        connection = consume now
        return hasWork
    }

    /// Arms whatever can bring work; true if there is work already.
    private func arm(_ now: inout Connection, _ reactor: Reactor, _ slot: ReactorSlot) -> Bool {
        if !now.bell.isPaused, now.transmit.armIfStarved() { return true }
        if !now.receive.isBlocked, (now.receiveBell == nil ? !now.bell.isPaused : now.receiveBell?.isPaused == false),
            now.receive.ring.armAndRecheck()
        {
            return true
        }
        awaitDevice(now, reactor, slot)
        now.bell.arm(reactor, slot)
        now.receiveBell?.arm(reactor, slot)
        return false
    }

    func prepareToSpin(_ reactor: Reactor, _ slot: ReactorSlot) {
        guard let now = connection.take() else { return }
        awaitDevice(now, reactor, slot)
        connection = consume now
    }

    /// Waits for the device, where there is something to wait for.
    private func awaitDevice(_ now: borrowing Connection, _ reactor: Reactor, _ slot: ReactorSlot) {
        guard let descriptor = device.descriptor else { return }
        if now.receive.isBlocked, !waitsWritable {
            waitsWritable = true
            reactor.whenWritable(descriptor, slot, tag: base + Tag.writable)
        }
        if !now.transmit.isStarved, !now.transmit.deviceIsReady, !now.transmit.deviceIsGone, !waitsReadable {
            waitsReadable = true
            reactor.whenReadable(descriptor, slot, tag: base + Tag.readable)
        }
    }

    func completed(_ tag: UInt32) {
        if tag - base == Tag.readable { waitsReadable = false }
        if tag - base == Tag.writable { waitsWritable = false }
        guard var now = connection.take() else { return }
        if now.bell.completed(tag: tag) || now.receiveBell?.completed(tag: tag) == true {
            now.receive.statistics.notificationsTaken &+= 1
        } else if tag - base == Tag.readable {
            now.transmit.deviceIsReady = true
        } else if tag - base == Tag.writable {
            now.receive.retry()
            publish(&now)
        }
        connection = consume now
    }

    private func sum(_ now: borrowing Connection) -> FrontendQueueStatistics {
        earlier + now.transmit.statistics + now.receive.statistics
    }
}
