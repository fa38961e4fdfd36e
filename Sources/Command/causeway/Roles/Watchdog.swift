// systemd's watchdog (sd_watchdog_enabled(3)): it hears that all is well as long as every thread that serves devices
// answers, and begins the service anew when it hears nothing.

import CommandSupport
import FoundationEssentials
import Glibc
import LinuxSystem
import Reactor

/// Asks the reactors again and again, for as long as it is not closed.
final class Watchdog: Sendable {
    private struct State {
        var isClosed = false
        /// Those of this round that have not answered, by name.
        var silent: Set<String> = []
        var round = 0
    }

    private let state = Monitor(State())
    private let thread: Monitor<WorkerThread?>
    private let reactors: @Sendable () -> [Reactor]

    /// nil if nobody wants to hear of it.
    /// - Parameter reactors: those that there are now.
    init?(_ reactors: @escaping @Sendable () -> [Reactor]) {
        guard let milliseconds = ServiceManager.watchdogMilliseconds else { return nil }
        self.reactors = reactors
        thread = Monitor(nil)
        // Twice in the time: one that comes late is not too late.
        let pause = max(1, milliseconds / 2)
        let started = try? WorkerThread(name: "watchdog") { [self] in run(pause) }
        guard let started else {
            complain("backend: no thread for systemd's watchdog: it will begin this service anew")
            return nil
        }
        thread.change { $0 = started }
    }

    /// Ends it.
    func close() {
        state.change { $0.isClosed = true }
        thread.change { $0.take() }?.join()
    }

    private func run(_ pause: Int) {
        var said: Set<String> = []
        while true {
            let end = SystemTime().kernelDeadline(milliseconds: pause)
            let silent = ask(until: end)
            if silent.isEmpty {
                ServiceManager.tell("WATCHDOG=1")
                said = []
            } else if said.isEmpty {
                said = silent
                let names = silent.sorted().joined(separator: ", ")
                complain("backend: \(names): no answer for \(pause) ms; systemd is not told that all is well meanwhile")
            }
            let isClosed = state.wait(until: end) { $0.isClosed ? true : nil }
            if isClosed == true { return }
        }
    }

    /// Asks all, and returns who has not answered when it is time.
    private func ask(until end: UInt64) -> Set<String> {
        let reactors = reactors()
        let state = state
        let round = state.change { state in
            state.round += 1
            state.silent = Set(reactors.map(\.name))
            return state.round
        }
        for reactor in reactors {
            let name = reactor.name
            reactor.post { state.change { if $0.round == round { $0.silent.remove(name) } } }
        }
        let all = state.wait(until: end) { $0.isClosed || $0.silent.isEmpty ? Set<String>() : nil }
        return all ?? state.change { $0.silent }
    }
}

extension ServiceManager {
    /// How often at least it wants to hear `WATCHDOG=1`, in milliseconds; nil: not at all, or not from this process.
    static var watchdogMilliseconds: Int? {
        let environment = ProcessInfo.processInfo.environment
        guard let text = environment["WATCHDOG_USEC"], let microseconds = UInt64(text), microseconds >= 2000 else { return nil }
        if let process = environment["WATCHDOG_PID"], process != "\(getpid())" { return nil }
        return Int(min(microseconds / 1000, 86_400_000))
    }
}
