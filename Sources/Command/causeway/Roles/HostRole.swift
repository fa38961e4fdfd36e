// What a host's process does.

import CommandSupport
import Hypervisor
import HypervisorRules
import LinuxSystem
import Loopback
import Toolstack

enum HostRole {
    /// Serves a loopback host until the process is asked to end.
    /// - Parameter ready: called once domains can come.
    static func serve(in directory: RunDirectory, machineSeed: UInt64, ready: () -> Void) throws(Failure) {
        Signals.block(Signals.termination)
        let host = try refusing("host") { () throws(HypervisorError) in
            var limits = HypervisorLimits()
            limits.machineSeed = machineSeed
            return try LoopbackHost(runDirectory: directory.path, limits: limits, time: .system)
        }
        try refusing("host") { () throws(HypervisorError) in try host.start() }
        defer { host.stop() }
        let store = try directory.connectStore()
        do { try DomainDirectories(store: store).createControlDomain() } catch { throw Failure("host: \(error)") }
        store.close()
        ready()
        while Signals.wait(for: Signals.termination, milliseconds: 1_000_000) == nil {}
    }
}
