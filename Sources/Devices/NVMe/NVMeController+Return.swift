// A controller that was given up is tried again, a few times and further and further apart: a cable that was pulled, a
// firmware that was busy with itself. One that lied is not.

import LinuxSystem

/// What is tried with a controller that was given up.
struct ReturnPlan {
    /// How often it is tried.
    static let mostTries = 5

    /// Whether it may be tried at all.
    var isAllowed = true
    /// Tries since a request was last served.
    var tries = 0
    /// When it was given up, and when it is tried next (`TimeSource.nanoseconds`).
    var since: UInt64 = 0
    var next: UInt64 = 0

    /// Whether there is something left to try.
    var isOpen: Bool { isAllowed && tries < Self.mostTries }
}

extension NVMeController {
    /// Whether it was given up and will be tried again.
    var mayReturn: Bool { lost.load(ordering: .relaxed) && returning.withLock { $0.isOpen } }

    /// It was given up: whether it may be tried again is decided once, for good.
    func planReturn(_ mayReturn: Bool) {
        let now = time.nanoseconds
        returning.withLock { plan in
            if !mayReturn { plan.isAllowed = false }
            (plan.since, plan.next) = (now, .max)
        }
    }

    /// A beat of a queue's, a second apart: tries it, if it is time, on the controller's worker.
    /// - Parameter pause: seconds before the first try; each is twice as far from the one before.
    func tryReturn(pause: UInt32) {
        let now = time.nanoseconds
        let isDue = returning.withLock { plan in
            guard plan.isOpen else { return false }
            let wait = UInt64(pause) * 1_000_000_000 << UInt64(plan.tries)
            if plan.next == .max { plan.next = now &+ wait }
            guard now >= plan.next else { return false }
            // Until this one has ended.
            plan.next = now &+ max(wait, 60_000_000_000)
            return true
        }
        if isDue { worker.run { _ in _ = self.startAgain() } }
    }

    /// Nobody is to try it any more: somebody else drives it from now on.
    func endReturn() { returning.withLock { $0.isAllowed = false } }

    /// Starts a controller that was given up; true: it serves. Waits for it.
    func startAgain() -> Bool {
        resetting.withLock { _ in
            guard lost.load(ordering: .acquiring) else { return true }
            let (isOpen, tries, since) = returning.withLock { plan in
                if plan.isOpen { plan.tries += 1 }
                return (plan.isAllowed && plan.tries <= ReturnPlan.mostTries, plan.tries, plan.since)
            }
            guard isOpen else { return false }
            let seconds = (time.nanoseconds &- since) / 1_000_000_000
            do throws(NVMeError) {
                try bringBack()
                log("\(port.name): it is back after \(seconds) s, and serves")
                return true
            } catch {
                port.cutOff()
                returning.withLock { $0.next = .max }
                if tries >= ReturnPlan.mostTries {
                    log(
                        "\(port.name): tried \(tries) times in \(seconds) s: \(error): it stays given up until its disk is opened "
                            + "anew")
                }
                return false
            }
        }
    }

    private func bringBack() throws(NVMeError) {
        guard port.load(NVMeRegister.status) != NVMeRegister.gone else { throw .gone }
        guard port.load64(NVMeRegister.capabilities) == capabilities.rawValue else { throw .another }
        try Self.stop(port, capabilities, time)
        try port.reconnect()
        // A reset of the function may have come with that.
        try Self.stop(port, capabilities, time)
        let known = identity
        try start()
        guard identity.serial == known.serial, identity.model == known.model else {
            try? Self.stop(port, capabilities, time)
            throw .another
        }
        resets.store(0, ordering: .relaxed)
        lost.store(false, ordering: .releasing)
        generation.wrappingAdd(1, ordering: .releasing)
    }
}
