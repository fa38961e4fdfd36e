// An interface on its reactors, as the control thread has it: one group of queues on each.

import DeviceControl
import DeviceFaults
import DeviceTrace
import DriverRuntime
import LinuxSystem
import NetworkProtocol
import Reactor

/// What an interface tells the control thread.
public enum InterfaceReport: Sendable {
    /// The frontend broke a ring; nothing more is taken from it.
    case broken(String)
    /// Something went wrong with memory: a line for the log.
    case trouble(String)
    /// Everything that was mapped is unmapped; the connection is no more.
    case closed
    /// Whoever held the other end of a doorbell of this connection is gone.
    case frontendGone(connection: Int)
    /// The other end of its wire may have come or gone.
    case carrier
}

/// One connection of one frontend. From any thread: whatever it is told it passes on to the groups' threads.
final class InterfaceEngine: Sendable {
    private let groups: [InterfaceQueueGroup]
    private let shared: SharedInterfaceState
    /// Slots that a predecessor had taken and not answered.
    let lostSlots: Int

    private let time: any TimeSource

    init(_ groups: [InterfaceQueueGroup], _ shared: SharedInterfaceState, _ time: any TimeSource, lostSlots: Int) {
        self.time = time
        self.groups = groups
        self.shared = shared
        self.lostSlots = lostSlots
    }

    /// Of each queue, by number.
    var statistics: [NetworkQueueStatistics] {
        let count = groups.reduce(0) { $0 + $1.queues.count }
        return (0..<count).map { groups[$0 % groups.count].queues[$0 / groups.count].statistics }
    }

    /// What was dropped, by reason.
    var drops: InterfaceDrops { InterfaceDrops(transmit: shared.transmitDrops.drops, receive: shared.receiveDrops.drops) }

    /// Tells `taps` of every packet from now on, soon.
    func trace(_ taps: [TraceTap]) { for group in groups { group.run { $0.trace(taps) } } }

    /// Has every queue do wrong what is set, from now on, until the book is unwatched.
    func follow(_ book: FaultBook) {
        book.watch(self) { [weak self, weak book] in if let self, let book { spoil(by: book) } }
        spoil(by: book)
    }

    private func spoil(by book: FaultBook) { for group in groups { _ = group.ask { $0.spoil(by: book) } } }

    /// From now on the interface may send so much.
    func setRate(_ rate: CreditRate?) {
        shared.credit.set(rate, now: time.nanoseconds / 1000)
        for group in groups { group.run { $0.rateChanged() } }
    }

    /// The frontend changed its mind about whether all multicast frames are to come
    /// (`feature-dynamic-multicast-control`).
    func setMulticastControl(_ isOn: Bool) {
        let change = shared.changeMulticast(by: nil) { filter in
            filter.setControl(isOn)
            return true
        }
        for number in change.others { groups[number].run { $0.takeMulticast() } }
    }

    /// Takes nothing from the frontend and gives it nothing, or goes on.
    func hold(_ isHeld: Bool) { for group in groups { _ = group.ask { $0.hold(isHeld) } } }

    /// Where the rings are: of queue n, 2n for what the frontend receives and 2n + 1 for what it sends.
    var rings: [XenRingState] {
        let states = groups.map { group in group.ask { $0.queues.map(\.states) } ?? [] }
        let count = states.reduce(0) { $0 + $1.count }
        return (0..<count).flatMap { number -> [XenRingState] in
            let group = states[number % states.count]
            return number / states.count < group.count ? group[number / states.count] : []
        }
    }

    /// Queues that it has.
    var queueCount: Int { groups.reduce(0) { $0 + $1.queues.count } }

    /// Does something with a queue, on its thread, and waits.
    func with(_ queue: Int, _ body: @escaping @Sendable (InterfaceQueue) -> Void) {
        let count = groups.count
        _ = groups[queue % count].ask { body($0.queues[queue / count]) }
    }

    /// The rings as a person looks at them, queue by queue.
    var reports: [RingReport] {
        let groups = groups.map { group in group.ask { $0.queues.map(\.reports) } ?? [] }
        let longest = groups.map(\.count).max() ?? 0
        return (0..<longest).flatMap { place in groups.flatMap { place < $0.count ? $0[place] : [] } }
    }

    /// Has everything given back; `closed` is reported when all groups have.
    func close() { for group in groups { group.run { $0.close() } } }
}
