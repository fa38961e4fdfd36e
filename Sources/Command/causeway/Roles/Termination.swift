// How a role is told to end.

import CommandSupport
import LinuxSystem

/// Calls `stop` when the process is asked to end; see `Signals.onTermination`.
func onTermination(_ stop: @escaping @Sendable () -> Void) throws(Failure) {
    do throws(Errno) { try Signals.onTermination(stop) } catch { throw Failure("cannot start a thread: \(error)") }
}
