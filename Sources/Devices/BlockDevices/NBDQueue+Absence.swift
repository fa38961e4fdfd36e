// A server that goes away: what it had not answered is held, with what comes meanwhile, and asked again, from the
// oldest on, when it is back. An absence ends with an answer and not with a connection: a server that falls over each
// time that it is asked is as good as none.

import LibNBD
import LinuxSystem
import Reactor
import Synchronization

/// Where the connecting thread puts what it got.
final class NBDAttempt: Sendable {
    private let isAbandoned = Atomic<Bool>(false)
    private let result = Mutex<NBDDisk.Attempt?>(nil)

    /// Nobody wants its result any more.
    func abandon() { isAbandoned.store(true, ordering: .relaxed) }

    /// On the connecting thread.
    func make(_ disk: NBDDisk) {
        let made = disk.connectAgain { !self.isAbandoned.load(ordering: .relaxed) }
        result.withLock { $0 = made }
    }

    func take() -> NBDDisk.Attempt? { result.withLock { $0.take() } }
}

extension NBDQueue {
    /// The connection has ended, and nobody here wanted that.
    func connectionLost(_ reason: String) {
        dropConnection()
        guard slot != nil else { return }
        if absence == nil {
            beginAbsence(reason)
        } else {
            // It came back and fell over again before it answered anything.
            if isOverdue { giveUp() }
            pauseThenConnect()
        }
        if isForsaken { failHeld(.canceled) }
    }

    /// There is no connection from now on, and one is tried for.
    /// - Parameter reason: why it was lost; nil: none was, and the disk need not know as long as this goes well.
    func beginAbsence(_ reason: String?) {
        let delay = disk.reconnect.delayMilliseconds
        absence = NBDAbsence(
            deadline: disk.time.deadline(milliseconds: Int(clamping: delay)), pause: disk.reconnect.firstPauseMilliseconds,
            waited: inFlight)
        if let reason { tellLoss(reason) }
        if delay == 0, reason != nil {
            giveUp()
        } else if delay > 0, let slot {
            reactor.after(microseconds: delay &* 1000, slot, tag: tag(.expired))
        }
        connect()
    }

    private func tellLoss(_ reason: String) {
        guard absence?.isTold == false else { return }
        absence?.isTold = true
        disk.lost(reason)
    }

    private var isOverdue: Bool { absence.map { disk.time.nanoseconds >= $0.deadline } ?? false }

    func connect() {
        guard let slot, absence != nil, handle == nil else { return }
        let attempt = NBDAttempt()
        self.attempt = attempt
        let event = tag(.connected)
        let (disk, reactor) = (self.disk, self.reactor)
        connector.run { hasThread in
            if hasThread { attempt.make(disk) }
            reactor.notify(slot, tag: event, result: 0)
        }
    }

    func attemptEnded() {
        guard absence != nil, handle == nil else { return }
        switch attempt.take() {
        case .connected(let handle): return adopt(handle)
        case .failed(let reason): tellLoss(reason)
        case .refused(let reason):
            tellLoss("another disk is in its place")
            disk.refused(reason)
        case nil: tellLoss("no thread can be had to connect with")
        }
        // Nothing waits where waiting is not wanted.
        if disk.reconnect.delayMilliseconds == 0 { giveUp() }
        pauseThenConnect()
    }

    private func pauseThenConnect() {
        guard let slot, let pause = absence?.pause else { return }
        absence?.pause = min(max(pause, 1) * 2, disk.reconnect.longestPauseMilliseconds)
        reactor.after(microseconds: pause &* 1000, slot, tag: tag(.retry))
    }

    func adopt(_ newHandle: NBDConnection) {
        handle = newHandle
        largestTransfer = newHandle.largestTransfer
        if inFlight == 0 { serverAnswers() }
        settle()
    }

    /// The absence, if there was one, is over.
    func serverAnswers() {
        guard let past = absence.take(), past.isTold else { return }
        disk.back(past.waited)
    }

    /// The time for which requests wait is over. One that a server has again, and is slow with, waits for its answer.
    func waitingIsOver() {
        guard absence?.hasGivenUp == false, handle == nil else { return }
        if isForsaken { failHeld(.canceled) } else if isOverdue { giveUp() }
    }

    private func giveUp() {
        guard let past = absence, !past.hasGivenUp else { return }
        absence?.hasGivenUp = true
        absence?.waited = 0
        tellLoss("no connection")
        disk.gaveUp(past.waited)
        failHeld(.ioError)
    }
}
