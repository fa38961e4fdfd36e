// What all threads of one interface have in common. Each of them has its own copy of whatever a frame is looked at by
// (InterfaceState); what is here changes so rarely that a lock will do. No frame takes it.

import NetworkProtocol
import Synchronization

/// The one truth behind the copies, and who is still there.
final class SharedInterfaceState: Sendable {
    private struct State {
        var multicast: MulticastStart
        /// Groups that have not looked yet since they were told that there is something new.
        var told: [Bool]
        var stalledGroups = 0
        var openGroups: Int
        var isBroken = false
    }

    private let state: Mutex<State>
    /// How much the frontend may send.
    let credit: SharedCredit
    /// Frames of the frontend's, and for it, that were dropped.
    let (transmitDrops, receiveDrops) = (DropCounter(), DropCounter())
    private let setCarrier: @Sendable (Bool) -> Void

    /// - Parameters:
    ///   - groups: groups of queues, each on a thread of its own.
    ///   - credit: how much the frontend may send; without one all that it likes.
    ///   - setCarrier: shows whoever uses the interface whether its frames are taken.
    init(
        _ multicast: MulticastStart, groups: Int = 1, credit: SharedCredit = SharedCredit(nil, now: 0),
        setCarrier: @escaping @Sendable (Bool) -> Void = { _ in }
    ) {
        self.credit = credit
        state = Mutex(State(multicast: multicast, told: Array(repeating: false, count: groups), openGroups: groups))
        self.setCarrier = setCarrier
    }

    /// What the frontend wants, as of now.
    var multicast: MulticastFilter { state.withLock { $0.multicast.filter } }

    /// What changing the filter came to.
    struct MulticastChange {
        let result: Bool
        /// Nil: nothing has changed.
        let filter: MulticastFilter?
        /// Groups that are to be told. One that was told and has not looked yet is not told again, so that a frontend
        /// that changes its mind all the time fills nobody's inbox.
        let others: [Int]
    }

    /// Changes the filter: there is one list, whichever queue or thread a change comes through, and one journal of it.
    /// It is written down before the request counts as taken: see MulticastJournal.
    /// - Parameters:
    ///   - group: whose change it is, and who needs no telling; nil: nobody's.
    ///   - body: changes them; what it returns is the result.
    func changeMulticast(by group: Int?, _ body: (inout MulticastFilter) -> Bool) -> MulticastChange {
        state.withLock { state in
            var filter = state.multicast.filter
            let result = body(&filter)
            if filter == state.multicast.filter { return MulticastChange(result: result, filter: nil, others: []) }
            state.multicast.journal?.changed(filter)
            state.multicast.filter = filter
            let others = state.told.indices.filter { $0 != group && !state.told[$0] }
            for other in others { state.told[other] = true }
            return MulticastChange(result: result, filter: filter, others: others)
        }
    }

    /// What is new for a group that was told.
    func news(for group: Int) -> MulticastFilter {
        state.withLock { state in
            state.told[group] = false
            return state.multicast.filter
        }
    }

    /// A group has queues whose frontend posts no pages, or no longer. While one has, the interface has no carrier, so
    /// that senders notice.
    func setStalled(_ isStalled: Bool) {
        // Under the lock, so that what is shown last is what is so.
        state.withLock { state in
            let before = state.stalledGroups
            state.stalledGroups += isStalled ? 1 : -1
            if (before == 0) != (state.stalledGroups == 0) { setCarrier(state.stalledGroups == 0) }
        }
    }

    /// A group found a ring broken; true for the first.
    func breakDown() -> Bool {
        state.withLock { state in
            defer { state.isBroken = true }
            return !state.isBroken
        }
    }

    /// A group has given everything back; true for the last.
    func closeGroup() -> Bool {
        state.withLock { state in
            state.openGroups -= 1
            return state.openGroups == 0
        }
    }
}
