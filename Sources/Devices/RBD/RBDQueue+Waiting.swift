// A cluster that does not answer. Requests wait for it, however long: one that was given up would be done all the same
// when the cluster is back, and the lock would be lost over it. What is done here is to say so, and not to make those
// wait who are going.

import BlockDevices
import LinuxSystem
import Reactor

/// How long a cluster has not answered.
struct RBDSilence {
    /// Seconds without an answer before it is told of, and before whoever is going is not kept waiting.
    static let (told, patience) = (5, 2)

    /// Whether somebody looks once a second.
    var isWatched = false
    /// Seconds without an answer, though something was asked.
    var seconds = 0
    /// Answers at the last look.
    var answers: UInt64 = 0
    /// Whether the log says so.
    var isTold = false
    /// Requests at that moment, or more that came later.
    var waited = 0
    /// Whoever waits for answers is going.
    var endsWaiting = false
}

extension RBDQueue {
    /// Something was asked of the cluster.
    func listen(_ slot: ReactorSlot) {
        if silence.isWatched { return }
        silence.isWatched = true
        silence.seconds = 0
        silence.answers = answers
        reactor.after(microseconds: 1_000_000, slot, tag: Event.second.rawValue)
    }

    /// Looks whether the cluster has answered since the last look.
    func secondHasPassed() {
        guard let slot, inFlight > 0 else { return silence.isWatched = false }
        silence.seconds = answers == silence.answers ? silence.seconds + 1 : 0
        silence.answers = answers
        if silence.seconds >= RBDSilence.told {
            silence.waited = max(silence.waited, inFlight)
            if !silence.isTold {
                silence.isTold = true
                disk.say("the cluster has not answered for \(silence.seconds) s; requests wait until it does")
            }
        }
        if silence.endsWaiting, silence.seconds >= RBDSilence.patience { abandon(.canceled) }
        reactor.after(microseconds: 1_000_000, slot, tag: Event.second.rawValue)
    }

    /// The cluster has answered.
    func answersAgain() {
        disk.say("the cluster answers again after \(silence.seconds) s; \(silence.waited) requests waited")
        silence.isTold = false
        silence.waited = 0
        silence.seconds = 0
    }
}
