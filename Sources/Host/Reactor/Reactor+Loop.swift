// The loop. One turn: posted jobs, every client's poll, one enter for all that was prepared, then completions and
// timers. A turn without work spins or sleeps as the policy says.

import CLinux
import CUring
import Glibc
import LinuxSystem
import Synchronization

extension Reactor {
    /// Runs turns on the calling thread until `done` says so after one of them. The first caller's thread becomes the
    /// reactor's for good. For benchmarks, tests and single-threaded tools.
    public func runLoop(until done: () -> Bool) throws(ReactorError) {
        try enter()
        while !done() { turn(mayWait: true) }
    }

    /// One turn on the calling thread; true if there was work. Sleeps, if the policy does, only when `mayWait`.
    @discardableResult
    public func runOnce(mayWait: Bool = true) throws(ReactorError) -> Bool {
        try enter()
        return turn(mayWait: mayWait)
    }

    /// One turn on the calling thread and, if there was nothing to do, all that comes before sleeping but the sleep;
    /// true if there was work. From then on only what would end the sleep is looked for, until there is some. For
    /// whoever has a clock of its own, which goes on by what it is told.
    package func step() throws(ReactorError) -> Bool {
        try enter()
        if isDozing {
            // As asleep: clients are asked for nothing, whatever lies in their memory.
            submit()
            let isWoken = dispatch()
            if !isWoken, !hasJobs.load(ordering: .acquiring), timers.nearest.map({ $0 > time.nanoseconds }) ?? true { return false }
            isDozing = false
            return true
        }
        if turn(mayWait: false) || prepareClients() { return true }
        submit()
        isDozing = !dispatch()
        return !isDozing
    }

    /// When the next timer is due, by the reactor's clock; nil: there is none. On its thread.
    package var nextDeadline: UInt64? { timers.nearest }

    /// The body of the reactor's own thread. Tells `outcome` first how it began.
    func loop(_ outcome: Handoff<ReactorError?>) {
        do throws(ReactorError) { try enter() } catch {
            closeInbox()
            threadIdentity.store(0, ordering: .relaxed)
            return outcome.deliver(error)
        }
        outcome.deliver(nil)
        uring.enterThread()
        while !hasStopped { turn(mayWait: true) }
        closeInbox()
        threadIdentity.store(0, ordering: .relaxed)
        uring.leaveThread()
    }

    private func enter() throws(ReactorError) {
        if hasEntered { return }
        do throws(Errno) { try uring.enable() } catch { throw .noRing(reactor: name, error) }
        hasEntered = true
        threadIdentity.store(UInt(pthread_self()), ordering: .relaxed)
        fixedFiles.register(uring)
        armWake()
    }

    @discardableResult
    func turn(mayWait: Bool) -> Bool {
        statistics.turns &+= 1
        var worked = runJobs()
        if pollClients() { worked = true }
        if uring.unsubmitted > 0 || !overflow.isEmpty { submit() }
        if dispatch() { worked = true }
        if !timers.isEmpty, fireTimers() { worked = true }
        if worked {
            idleTurns = 0
            return true
        }
        if isStopping && inFlightTotal == 0 {
            hasStopped = true
            return false
        }
        if mayWait { idle() }
        return false
    }

    private func pollClients() -> Bool {
        var worked = false
        var index = 0
        // By index, and the count anew: a client may attach or detach others.
        while index < seats.count {
            if let client = seats[index].client, client.poll() { worked = true }
            index += 1
        }
        return worked
    }

    /// Nothing to do: spin on, or sleep.
    private func idle() {
        switch polling {
        // Nobody here can be waited for: awake, it would only take the processor from those who have work.
        case .always where occupied == 0: sleep()
        case .always:
            if idleTurns == 0 {
                idleTurns = 1
                for seat in seats { seat.client?.prepareToSpin() }
            }
            spin()
        case .sleep: sleep()
        case .adaptive(let microseconds): adapt(limit: UInt64(microseconds) * 1000)
        }
    }

    /// The processor is offered to others in every 32nd idle turn: each two or three microseconds.
    private static let offerMask: UInt32 = 31

    /// Spins as long as that has paid lately and nobody else wants the processor, then sleeps.
    private func adapt(limit: UInt64) {
        if idleTurns == 0 {
            hasYielded = false
            idleSince = time.nanoseconds
            if window.length > 0 { for seat in seats { seat.client?.prepareToSpin() } }
        }
        idleTurns &+= 1
        if window.length > 0, !hasYielded {
            spins &+= 1
            if spins & Self.offerMask == 0 {
                let before = time.nanoseconds
                sched_yield()
                let now = time.nanoseconds
                if window.yielded(now &- before, now: now) {
                    // Whatever came while another ran is found before sleeping.
                    hasYielded = true
                    return
                }
            } else {
                causeway_pause()
            }
            // The clock costs more than a turn, so it is read in every 16th.
            if idleTurns & 15 != 0 || time.nanoseconds &- idleSince < min(window.length, limit) { return }
        }
        idleTurns = 0
        let sleeps = statistics.sleeps
        sleep()
        if statistics.sleeps != sleeps {
            let now = time.nanoseconds
            window.waited(now &- idleSince, now: now, limit: limit)
        }
    }

    /// One idle turn awake. After many in a row the processor is offered to others: a peer that spins on the same one
    /// would otherwise wait a whole time slice for each answer.
    private func spin() {
        spins &+= 1
        if spins & 127 == 0 { sched_yield() } else { causeway_pause() }
    }

    /// Asks every client whether it can sleep; true if one found work.
    private func prepareClients() -> Bool {
        var index = 0
        var worked = false
        while index < seats.count {
            if let client = seats[index].client, client.prepareToSleep() { worked = true }
            index += 1
        }
        return worked
    }

    private func sleep() {
        if prepareClients() { return }
        drainOverflow()
        var limit: UInt64?
        if let nearest = timers.nearest {
            let now = time.nanoseconds
            if nearest <= now { return }
            limit = nearest - now
        }
        isAsleep.store(true, ordering: .sequentiallyConsistent)
        if hasJobs.load(ordering: .sequentiallyConsistent) {
            isAsleep.store(false, ordering: .sequentiallyConsistent)
            return
        }
        statistics.enters &+= 1
        statistics.sleeps &+= 1
        statistics.submitted &+= UInt64(uring.unsubmitted)
        _ = uring.submitAndWait(nanoseconds: limit)
        isAsleep.store(false, ordering: .sequentiallyConsistent)
        dispatch()
    }

    /// Gives everything prepared to the kernel in one enter, or as many as the overflow needs.
    func submit() {
        repeat {
            drainOverflow()
            let before = uring.unsubmitted
            statistics.enters &+= 1
            let result = uring.submit()
            statistics.submitted &+= UInt64(before &- uring.unsubmitted)
            // EBUSY and EAGAIN: the kernel wants its completions taken first; the entries stay in the ring for the next
            // turn.
            if result < 0 && result != -EINTR { return }
        } while !overflow.isEmpty
    }

    /// Takes completions in batches and hands them on; true if there was one that counts as work.
    @discardableResult
    private func dispatch() -> Bool {
        var worked = false
        while true {
            // SAFETY: the buffer has room for a batch, all of it initialized; `reap` fills the first `count` of it. It
            // is the thread's alone.
            let count = unsafe uring.reap(into: buffer)
            statistics.completed &+= UInt64(count)
            for index in 0..<count {
                if unsafe deliver(buffer[index]) { worked = true }
            }
            if count < Uring.batch { return worked }
        }
    }

    private func deliver(_ completion: Completion) -> Bool {
        let data = UserData(rawValue: completion.userData)
        switch data.kind {
        case .operation:
            finish(slot: data.slot, generation: data.generation, tag: data.tag, result: completion.result)
            return true
        case .wait:
            waits[data.rawValue] = nil
            let seat = seats[data.slot]
            guard seat.generation == data.generation, let client = seat.client else { return false }
            client.completed(tag: data.tag, result: completion.result)
            return true
        case .wake:
            if completion.flags & IORING_CQE_F_MORE == 0 { armWake() }
            return false
        case .ignored: return false
        }
    }

    /// Accounts one ended operation and tells its owner, if that is still there.
    func finish(slot: Int, generation: UInt16, tag: UInt32, result: Int32) {
        let seat = seats[slot]
        seat.inFlight -= 1
        inFlightTotal -= 1
        if let client = seat.client {
            if seat.generation == generation { client.completed(tag: tag, result: result) }
        } else if seat.inFlight == 0 {
            freeSeats.append(slot)
        }
    }

    private func fireTimers() -> Bool {
        let now = time.nanoseconds
        var fired = false
        while let timer = timers.popDue(now) {
            let seat = seats[timer.slot.index]
            guard seat.generation == timer.slot.generation, let client = seat.client else { continue }
            client.completed(tag: timer.tag, result: 0)
            fired = true
        }
        return fired
    }
}
