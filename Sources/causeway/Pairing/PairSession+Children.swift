// What a pair does when one of its processes ends: a backend comes back, a frontend takes its guest with it, a host is the end.

import Glibc

extension PairSession {
    /// Reaps whoever ended and answers it.
    mutating func lookAfterChildren() throws(Failure) {
        if let status = host?.reap() {
            host = nil
            throw Failure("pair: the host \(status)")
        }
        if let status = backend?.reap() {
            backend = nil
            restarts.ended(status)
            complain("pair: the backend \(status); starting it again")
        }
        if backend == nil, host != nil, restarts.isDue { try startBackend() }
        lookAfterVifs()
        for index in disks.indices {
            guard let status = disks[index].frontend?.reap() else { continue }
            disks[index].frontend = nil
            complain(
                "pair: \(disks[index].name): the frontend \(status); its domain \(disks[index].domain) is destroyed")
            release(disks[index])
        }
    }
}

/// When a backend that ended may start again: at once, unless it keeps ending as soon as it starts.
struct RestartPolicy {
    private var startedAt = ContinuousClock.now
    private var dueAt: ContinuousClock.Instant?
    private var pause = Duration.zero

    /// Whether a start waits for its time.
    var isPending: Bool { dueAt != nil }
    /// Whether a start's time has come.
    var isDue: Bool { dueAt.map { ContinuousClock.now >= $0 } ?? false }

    mutating func started() {
        startedAt = .now
        dueAt = nil
    }

    /// A life of less than a second doubles the pause, up to a second; a longer one forgets it. One that somebody killed was not
    /// the backend's fault, and comes back at once.
    mutating func ended(_ status: ExitStatus) {
        let isShort = ContinuousClock.now - startedAt < .seconds(1) && status != .signalled(SIGKILL)
        pause = isShort ? min(max(pause * 2, .milliseconds(1)), .seconds(1)) : .zero
        dueAt = ContinuousClock.now + pause
    }
}
