// Whose turn it is.

import LinuxSystem
import Simulation

extension BlockWorld {
    /// One step: somebody's turn, a fault, or time.
    func step() throws {
        let chance = host.chance
        try mayFail()
        try begin()
        switch chance.below(20) {
        case 0..<3: for _ in 0...chance.below(8) { try controlBackend() }
        case 3..<6: for _ in 0...chance.below(8) { try controlFrontend(isWoken: chance.oneIn(8)) }
        case 6..<10: _ = try turnReactor()
        case 10..<14: _ = try turnUser()
        case 14..<18: _ = disk.work()
        case 18: host.hypervisors.ringLate()
        default: host.clock.advance(nanoseconds: UInt64(chance.oneIn(10) ? 1_200_000_000 : chance.below(2_000_000)))
        }
    }

    /// Starts what should run and does not.
    func begin() throws {
        let now = host.clock.nanoseconds
        if backend == nil, now >= backendReturns {
            do {
                backend = try BackendProcess(self)
                note(1, "a backend begins")
            } catch {
                note(2, "a backend does not begin: \(error)")
                backendReturns = now + 50_000_000
            }
        }
        if frontend == nil, now >= frontendReturns {
            frontend = try FrontendProcess(self)
            note(3, "a frontend begins")
        }
    }

    func controlBackend() throws {
        guard let backend else { return }
        do {
            if try backend.stepped.turn() { return }
            note(4, "the backend has ended")
            leaveBackend()
        } catch {
            // One that is killed by another's error would be begun again, too.
            throw Violation("the backend's control loop ends: \(error)")
        }
    }

    /// - Parameter isWoken: whether it looks even if the store has told nothing.
    func controlFrontend(isWoken: Bool = true) throws {
        guard let frontend else { return }
        guard try frontend.control(isWoken: isWoken) == nil else { return }
        guard frontend.isEnding else { throw Violation("the frontend is over and was not asked to end") }
        note(5, "the frontend has ended")
        leaveFrontend()
    }

    /// True if it did something.
    func turnReactor() throws -> Bool {
        guard let backend else { return false }
        return try host.chance.pick(backend.stepped.reactors).step()
    }

    /// True if it did something.
    func turnUser() throws -> Bool {
        guard let users = frontend?.users, !users.isEmpty else { return false }
        return try host.chance.pick(users).turn()
    }

    // MARK: Ends

    /// A backend that has ended in good order exits.
    private func leaveBackend() {
        guard let backend else { return }
        disk.forget()
        host.kill(backend.hypervisor)
        backend.stepped.abandon()
        self.backend = nil
        backendReturns = host.clock.nanoseconds
    }

    private func leaveFrontend() {
        guard let frontend else { return }
        for user in frontend.users { user.die() }
        host.kill(frontend.hypervisor)
        frontend.stepped.abandon()
        self.frontend = nil
        frontendReturns = host.clock.nanoseconds
    }

    func killBackend() {
        guard backend != nil else { return }
        note(6, "the backend is killed")
        leaveBackend()
        backendReturns += UInt64(host.chance.below(300)) * 1_000_000
    }

    func killFrontend() {
        guard frontend != nil else { return }
        note(7, "the frontend is killed")
        leaveFrontend()
        frontendReturns += UInt64(host.chance.below(300)) * 1_000_000
    }

    /// What befalls processes.
    private func mayFail() throws {
        let faults = host.faults
        if faults.happens(.backendKilled, oneIn: 500) { killBackend() }
        if faults.happens(.backendStopped, oneIn: 900), let backend, !backend.isEnding {
            note(8, "the backend is asked to end")
            backend.isEnding = true
            backend.service.stop()
        }
        if faults.happens(.frontendKilled, oneIn: 1500) { killFrontend() }
        if faults.happens(.frontendClosed, oneIn: 1500), let frontend, !frontend.isEnding {
            note(9, "the frontend is asked to end")
            frontend.isEnding = true
            frontend.stepped.close()
        }
        if faults.happens(.powerLost, oneIn: 2500) {
            note(10, "the power fails")
            killBackend()
            killFrontend()
            disk.failPower()
            book.powerFailed()
        }
    }
}
