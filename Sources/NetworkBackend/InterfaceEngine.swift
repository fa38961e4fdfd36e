// An interface on its reactors, as the control thread has it: one group of queues on each.

import FrameTrace
import LinuxSystem
import Reactor

/// What an interface tells the control thread.
public enum InterfaceReport: Sendable {
    /// The frontend broke a ring; nothing more is taken from it.
    case broken(String)
    /// Something went wrong with memory: a line for the log.
    case trouble(String)
    /// Everything that was mapped is unmapped; the connection is no more.
    case closed
    /// The other end of its wire may have come or gone.
    case carrier
}

/// One connection of one frontend. From any thread: whatever it is told it passes on to the groups' threads.
final class InterfaceEngine: Sendable {
    private let groups: [QueueGroup]
    private let commons: InterfaceCommons
    /// Slots that a predecessor had taken and not answered.
    let lostSlots: Int

    init(_ groups: [QueueGroup], _ commons: InterfaceCommons, lostSlots: Int) {
        self.groups = groups
        self.commons = commons
        self.lostSlots = lostSlots
    }

    /// Of each queue, by number.
    var statistics: [NetworkQueueStatistics] {
        let count = groups.reduce(0) { $0 + $1.queues.count }
        return (0..<count).map { groups[$0 % groups.count].queues[$0 / groups.count].statistics }
    }

    /// Tells `taps` of every packet from now on, soon.
    func trace(_ taps: [TraceTap]) { for group in groups { group.run { $0.trace(taps) } } }

    /// From now on each queue may send so much.
    func setRate(_ rate: CreditRate?) { for group in groups { group.run { $0.setRate(rate) } } }

    /// The frontend changed its mind about whether all multicast frames are to come (`feature-dynamic-multicast-control`).
    func setMulticastControl(_ isOn: Bool) {
        let change = commons.changeMulticast(by: nil) { wishes in
            wishes.setControl(isOn)
            return true
        }
        for number in change.others { groups[number].run { $0.takeMulticast() } }
    }

    /// Has everything given back; `closed` is reported when all groups have.
    func close() { for group in groups { group.run { $0.close() } } }
}
