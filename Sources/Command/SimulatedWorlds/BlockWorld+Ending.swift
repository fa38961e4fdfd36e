// After the last fault: everything that was begun ends, the disk holds what it should, and nothing is left in use.

import HypervisorRules
import LinuxSystem
import Simulation

extension BlockWorld {
    /// Nothing goes wrong any more: what is under way must end within a minute of the simulation's time.
    func settle() throws {
        host.faults.end()
        note(11, "nothing goes wrong from here on")
        try untilQuiet(busy: false) { self.frontend?.inFlight ?? 0 == 0 && !(self.frontend?.users.isEmpty ?? true) }
        // It goes on working: a few operations more.
        let before = book.answered
        try untilQuiet(busy: true) { self.book.answered >= before + 20 }
        try untilQuiet(busy: false) { self.frontend?.inFlight ?? 0 == 0 }
    }

    private func untilQuiet(busy: Bool, _ isOver: () -> Bool) throws {
        let limit = host.clock.nanoseconds + 60_000_000_000
        while !isOver() {
            for user in frontend?.users ?? [] { user.isBusy = busy }
            if try round() { continue }
            let now = host.clock.nanoseconds
            guard now < limit else { throw Violation("no progress: \(standstill)") }
            let due = nextTimes.filter { $0 > now }.min() ?? now + 100_000_000
            host.clock.advance(nanoseconds: min(due - now, 100_000_000))
        }
    }

    /// Everybody has a turn; true if somebody did something that others wait for.
    private func round() throws -> Bool {
        try begin()
        var worked = host.hypervisors.ringLate() > 0
        let before = host.trace.count
        try controlBackend()
        try controlFrontend()
        for reactor in backend?.stepped.reactors ?? [] where try reactor.step() { worked = true }
        for user in frontend?.users ?? [] where try user.turn() { worked = true }
        while disk.work() { worked = true }
        try check()
        return worked || host.trace.count != before
    }

    /// When somebody has something to do that nothing announces.
    private var nextTimes: [UInt64] {
        (backend?.stepped.reactors.compactMap(\.nextDeadline) ?? []) + (frontend?.users.compactMap(\.wakesAt) ?? [])
            + [backendReturns, frontendReturns, frontend?.pausedUntil ?? 0]
    }

    private var standstill: String {
        "\(frontend?.inFlight ?? 0) operations under way, \(disk.inFlight) at the disk, "
            + "frontend \(frontend.map { "\($0.frontend.description)" } ?? "absent"), "
            + "backend \(backend.map { "\($0.service.status)" } ?? "absent")"
    }

    /// Both sides close in good order; then nothing is in use.
    func end() throws {
        frontend?.isEnding = true
        frontend?.stepped.close()
        try untilGone("the frontend") { self.frontend == nil }
        frontendReturns = .max
        // The backend hears of it.
        for _ in 0..<50 { _ = try closingRound() }
        backend?.isEnding = true
        backend?.service.stop()
        try untilGone("the backend") { self.backend == nil }
        let usage = host.hypervisors.usage
        guard usage == baseline else { throw Violation("left in use: \(usage); before: \(baseline)") }
        if let fault = host.hypervisors.store.checkInvariants().first { throw Violation("the store: \(fault)") }
    }

    private func untilGone(_ who: String, _ isGone: () -> Bool) throws {
        let limit = host.clock.nanoseconds + 20_000_000_000
        while !isGone() {
            guard host.clock.nanoseconds < limit else { throw Violation("\(who) does not end: \(standstill)") }
            if try !closingRound() { host.clock.advance(nanoseconds: 1_000_000) }
        }
    }

    private func closingRound() throws -> Bool {
        try controlBackend()
        try controlFrontend()
        var worked = false
        for reactor in backend?.stepped.reactors ?? [] where try reactor.step() { worked = true }
        while disk.work() { worked = true }
        return worked
    }
}
