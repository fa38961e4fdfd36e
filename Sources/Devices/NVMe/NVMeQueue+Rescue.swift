// When the controller is late, has failed or was reset. What waits for it runs on the controller's worker; here is only
// what is seen and decided on the queue's thread, once a second.

import LinuxSystem

extension NVMeQueue {
    /// How far it has come with a command that takes too long.
    enum Rescue {
        /// It was asked to give the command up, at this beat.
        case aborting(since: UInt32)
        /// It is being reset.
        case resetting
    }

    /// One beat: looks for what takes too long.
    func tick() {
        hot.value.tick &+= 1
        if generation != controller.generation.load(ordering: .relaxed) { followReset() }
        if controller.lost.load(ordering: .relaxed) { return controller.tryReturn(pause: disk.limits.returnSeconds) }
        // A completion whose interrupt was lost.
        _ = drain()
        guard isCreated, slot != nil else { return }
        hot.value.unpark()
        if !controller.isHealthy {
            let isGone = port.load(NVMeRegister.status) == NVMeRegister.gone
            return isGone ? loseController("its registers read as all ones") : reset("it says that it has failed")
        }
        let limits = disk.limits
        guard let oldest = hot.value.oldest, hot.value.tick &- oldest.given >= limits.commandSeconds else {
            rescue = nil
            return
        }
        switch rescue {
        case nil:
            rescue = .aborting(since: hot.value.tick)
            let (controller, number) = (controller, hot.value.rings.number)
            controller.worker.run { _ in controller.abort(oldest.identifier, queue: number) }
        case .aborting(let since) where hot.value.tick &- since >= limits.abortSeconds:
            reset("queue \(hot.value.rings.number): no answer to a command in \(hot.value.tick &- oldest.given) s")
        case .aborting, .resetting: break
        }
    }

    private func reset(_ reason: String) {
        if case .resetting? = rescue { return }
        rescue = .resetting
        let (controller, seen) = (controller, generation)
        controller.worker.run { _ in controller.reset(since: seen, because: reason) }
    }

    private func loseController(_ reason: String) {
        let controller = controller
        controller.giveUp(reason)
        followReset()
    }

    /// The controller was reset, or given up: it has forgotten the pair of queues.
    func followReset() {
        generation = controller.generation.load(ordering: .acquiring)
        rescue = nil
        isCreated = false
        if controller.lost.load(ordering: .acquiring) {
            hot.value.failAll(.ioError)
            return endRequests()
        }
        // Nothing of it is read or written by the controller until it is made again.
        hot.value.rings.clear()
        guard let slot else { return }
        let (controller, place, seen, reactor) = (controller, hot.value.rings.place, generation, reactor)
        controller.worker.run { _ in
            do throws(NVMeError) {
                try controller.create(place)
                reactor.notify(slot, tag: Tag.recreated, result: Int32(truncatingIfNeeded: seen))
            } catch { controller.giveUp("queue \(place.number) cannot be made again: \(error)") }
        }
    }

    /// The pair is there again: what was in flight is asked again, in the same slots. A completion from before the
    /// reset is none of theirs: the completion queue's memory was cleared behind it.
    func recreated(generation made: Int) {
        guard made == generation, !isCreated, !controller.lost.load(ordering: .relaxed) else { return }
        isCreated = true
        hot.value.giveAgain()
        issue()
        startTicking()
    }
}
