// The host that every benchmark stands on.

import CommandSupport
import LinuxSystem

extension ChildProcess {
    /// Starts a host in `run` and waits until its store answers; none is left behind if it does not within ten seconds.
    static func startHost(in run: RunDirectory) throws(Failure) -> ChildProcess {
        let host = try startRole(["host"], in: run)
        let end = ContinuousClock.now + .seconds(10)
        while !StreamSocket.accepts(at: run.storeSocket) {
            guard ContinuousClock.now < end else {
                host.stop(milliseconds: 1000)
                throw Failure("bench: the host does not start")
            }
            SystemTime().sleep(milliseconds: 2)
        }
        return host
    }
}
