// When a process that ended may start again.

import Glibc
import LinuxSystem

/// When a process of a pair that ended may start again: at once, unless it keeps ending as soon as it starts.
struct RestartPolicy {
    private var startedAt = ContinuousClock.now
    private var dueAt: ContinuousClock.Instant?
    private var pause = Duration.zero
    /// What speaks against another start.
    private var weight = 0

    /// Whether a start waits for its time.
    var isPending: Bool { dueAt != nil }
    /// Whether a start's time has come.
    var isDue: Bool { dueAt.map { ContinuousClock.now >= $0 } ?? false }
    /// Whether it has ended within a second ten times in a row, or, where it was of use each time, a hundred times.
    var isExhausted: Bool { weight >= 100 }

    mutating func started() {
        startedAt = .now
        dueAt = nil
    }

    /// A life of less than a second doubles the pause, up to a second, or a twentieth of one if it was of use before
    /// its end; a longer one forgets it. One that somebody killed was not the process's fault, and comes back at once.
    mutating func ended(_ status: ExitStatus, wasOfUse: Bool = false) {
        let wasKilled = status == .signalled(SIGKILL)
        let isShort = ContinuousClock.now - startedAt < .seconds(1)
        let longest: Duration = wasOfUse ? .milliseconds(50) : .seconds(1)
        pause = isShort && !wasKilled ? min(max(pause * 2, .milliseconds(1)), longest) : .zero
        if !isShort || wasKilled { weight = 0 } else { weight += wasOfUse ? 1 : 10 }
        dueAt = ContinuousClock.now + pause
    }
}
