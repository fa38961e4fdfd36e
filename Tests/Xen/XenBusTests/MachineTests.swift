// Both state machines together, every interleaving: from wherever deaths and returns may lead, the pair finds its way
// back to connected, and a detached device comes to rest.

import Testing
import XenBus
import XenTypes

/// What the store says and what the two processes hold.
private struct World: Hashable, CustomStringConvertible {
    var back = XenbusState.initialising
    var front = XenbusState.initialising
    var holds = false
    var announced = false
    var phase = FrontendPhase.detached
    var online = true
    var removed = false
    /// Rings that the frontend publishes have a number; the backend holds one. It must never serve another's.
    var published = 0
    var held = 0
    /// The ring that a journal of the backend's is of.
    var journaled: Int?

    var isConnected: Bool { back == .connected && front == .connected && holds && phase == .live && published == held }
    var description: String { "back \(back) front \(front) holds \(holds) announced \(announced) phase \(phase) online \(online)" }

    private var facts: BackendFacts {
        var facts = BackendFacts(own: back, frontend: front, online: online)
        facts.holds = holds
        facts.announced = announced
        facts.adoptable = journaled != nil && !announced
        return facts
    }

    /// The backend's next step, done; nil if it waits.
    func backStep() -> World? {
        var next = self
        switch BackendMachine.next(facts) {
        case .wait: return nil
        case .adopt:
            // A journal of another ring is thrown away, and the usual close cycle follows.
            if journaled == published {
                next.announced = true
                next.holds = true
                next.held = published
            } else {
                next.journaled = nil
            }
        case .announce:
            next.announced = true
            next.back = .initWait
        case .connect:
            // A connect without an offer announces first, as BackendFollower does.
            next.announced = true
            next.holds = true
            next.held = published
            next.journaled = published
            next.back = .connected
        case .close:
            next.back = .closing
            next.journaled = nil
        case .disconnect:
            next.journaled = nil
            if holds { next.holds = false } else { next.back = .closed }
        case .refuse:
            next.back = .closing
            next.journaled = nil
        // A vif's steps; a vbd must never be told to take them.
        case .reconfigure, .resume: Issue.record("a vbd was told to reconfigure: \(self)")
        }
        return next == self ? nil : next
    }

    /// The frontend's next step, done; nil if it waits.
    func frontStep() -> World? {
        if removed { return nil }
        var next = self
        switch FrontendMachine.next(own: front, backend: back, phase: phase, online: online, ownExists: true) {
        case .wait, .refresh, .refuse: return nil
        case .publish:
            next.phase = .published
            next.front = .initialised
            // Two numbers are enough to tell a ring from the one before.
            next.published = 1 - published
        case .goLive:
            next.phase = .live
            next.front = .connected
        case .suspend:
            next.phase = .detached
            next.front = .closed
        case .restart: next.front = .initialising
        case .remove:
            next.removed = true
            next.phase = .detached
        }
        return next == self ? nil : next
    }

    /// What may befall it.
    func misfortunes(detach: Bool) -> [World] {
        var all: [World] = []
        var dead = self
        dead.holds = false
        dead.announced = false
        all.append(dead)
        if !removed {
            var frontDead = self
            frontDead.phase = .detached
            all.append(frontDead)
        }
        if detach && online {
            var detached = self
            detached.online = false
            detached.back = .closing
            all.append(detached)
        }
        return all
    }
}

@Suite struct MachineTests {
    /// Every world that steps and misfortunes lead to.
    private func reachable(detach: Bool) -> Set<World> {
        var seen: Set<World> = [World()]
        var frontier = [World()]
        while let world = frontier.popLast() {
            for next in [world.backStep(), world.frontStep()].compactMap({ $0 }) + world.misfortunes(detach: detach)
            where seen.insert(next).inserted { frontier.append(next) }
        }
        return seen
    }

    @Test func aPairAlwaysFindsBackToConnected() {
        let worlds = reachable(detach: false)
        #expect(worlds.count > 30)
        // Backwards from connected, over steps only: whoever is not met is lost.
        var good = worlds.filter(\.isConnected)
        var grew = true
        while grew {
            let more = worlds.subtracting(good).filter { world in
                [world.backStep(), world.frontStep()].contains { $0.map(good.contains) ?? false }
            }
            grew = !more.isEmpty
            good.formUnion(more)
        }
        for lost in worlds.subtracting(good) { Issue.record("no way back from: \(lost)") }
        for world in worlds where world.isConnected { #expect(world.backStep() == nil && world.frontStep() == nil) }
        for world in worlds where world.backStep() == nil && world.frontStep() == nil {
            #expect(world.isConnected, "stuck: \(world)")
        }
    }

    @Test func aBackendNeverServesRingsOfAnEarlierLife() {
        for world in reachable(detach: false) where world.phase == .live && world.holds && world.back == .connected {
            #expect(world.published == world.held, "\(world)")
        }
    }

    @Test func aDetachedDeviceComesToRest() {
        for start in reachable(detach: true) where !start.online {
            var world = start
            var steps = 0
            // Fair turns: whoever can, does.
            while steps < 100 {
                let before = world
                world = world.backStep() ?? world
                world = world.frontStep() ?? world
                if world == before { break }
                steps += 1
            }
            #expect(steps < 100 && !world.holds && world.phase == .detached, "\(start) ends as \(world)")
        }
    }

    @Test func aStrangeStateOfTheFrontendIsRefusedOnce() {
        for strange in [XenbusState.reconfiguring, .reconfigured] {
            for own in XenbusState.allCases where own != .closing && own != .closed {
                var facts = BackendFacts(own: own, frontend: strange, online: true)
                (facts.holds, facts.announced) = (true, true)
                let step = BackendMachine.next(facts)
                guard case .refuse = step else { Issue.record("\(own), \(strange): \(step)"); continue }
            }
            var facts = BackendFacts(own: .closing, frontend: strange, online: true)
            facts.announced = true
            #expect(BackendMachine.next(facts) == .wait)
        }
    }

    @Test("a backend whose directory went as the device was taken away is not waited for, any other is")
    func directoryGone() {
        for own in XenbusState.allCases {
            for phase in [FrontendPhase.detached, .published, .live] {
                for inUse in [false, true] {
                    func next(_ backend: XenbusState, leaving: Bool) -> FrontendStep {
                        FrontendMachine.next(
                            own: own, backend: backend, phase: phase, online: false, wasLeaving: leaving, ownExists: true,
                            inUse: inUse)
                    }
                    #expect(next(.unknown, leaving: true) == .remove)
                    for backend in [XenbusState.unknown, .initialising] {
                        let wait: FrontendStep = phase == .detached ? .wait : .suspend
                        #expect(next(backend, leaving: false) == wait)
                    }
                    for backend in XenbusState.allCases where backend != .unknown {
                        #expect(next(backend, leaving: true) == next(backend, leaving: false))
                    }
                }
            }
        }
    }

    @Test("a frontend in use refuses to close while it is asked to, and only then")
    func inUse() {
        for state in XenbusState.allCases {
            for phase in [FrontendPhase.detached, .published, .live] {
                for online in [false, true] {
                    let free = FrontendMachine.next(own: .connected, backend: state, phase: phase, online: online, ownExists: true)
                    let used = FrontendMachine.next(
                        own: .connected, backend: state, phase: phase, online: online, ownExists: true, inUse: true)
                    let refuses = state == .closing && phase == .live && !online
                    #expect(used == (refuses ? .refuse : free), "\(state) \(phase) \(online)")
                }
            }
        }
    }
}
