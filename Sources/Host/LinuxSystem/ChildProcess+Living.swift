// Which children a process has: for one that is asked to end while another of its threads waits for them.

import Glibc
import Synchronization

extension ChildProcess {
    /// Children that were started and not reaped, the oldest first, and whether each leads a group.
    private static let living = Mutex<[(process: pid_t, leadsGroup: Bool)]>([])

    static func began(_ process: pid_t, leadsGroup: Bool) { living.withLock { $0.append((process, leadsGroup)) } }

    /// Runs `body`, which reaps the child if it has ended, while nobody sends it signals by its number.
    static func reaping(_ process: pid_t, _ body: () -> ExitStatus?) -> ExitStatus? {
        living.withLock { living in
            let status = body()
            if status != nil { living.removeAll { $0.process == process } }
            return status
        }
    }

    /// Asks every child to end, with what it started in its group, the last first: those before may be what it stands
    /// on. Kills what has not ended after `milliseconds`, and returns when all have. Reaps none: whoever waits for one
    /// still learns how it ended.
    package static func endAll(milliseconds: Int, _ time: some TimeSource) {
        let end = time.milliseconds + Int64(milliseconds)
        while let (last, leadsGroup) = living.withLock({ $0.last { !hasEnded($0.process) } }) {
            signal(last, leadsGroup, SIGTERM)
            while !hasEnded(last) {
                if time.milliseconds >= end { signal(last, leadsGroup, SIGKILL) }
                time.sleep(milliseconds: 2)
            }
        }
    }

    private static func signal(_ process: pid_t, _ leadsGroup: Bool, _ number: Int32) {
        // A number stays the child's own for as long as nobody reaps it, and that takes the lock.
        living.withLock { living in
            guard living.contains(where: { $0.process == process }) else { return }
            _ = kill(leadsGroup ? -process : process, number)
        }
    }

    private static func hasEnded(_ process: pid_t) -> Bool {
        // SAFETY: the call fills in the structure; only a number of it is looked at.
        var information = unsafe siginfo_t()
        let result = unsafe waitid(P_PID, id_t(process), &information, WEXITED | WNOHANG | WNOWAIT)
        return unsafe result != 0 || information.si_signo == SIGCHLD
    }
}
