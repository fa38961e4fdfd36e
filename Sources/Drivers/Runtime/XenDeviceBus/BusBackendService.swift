// A backend for devices of a bus: carries the bus's verbs for domains of a hypervisor, whatever the devices are. One
// control thread (the caller's) follows the store; one reactor listens to doorbells.

import DeviceBus
import DriverRuntime
import Hypervisor
import Interrupts
import Reactor
import XenBus

/// Serves every device of the class `vdevice` whose backend is this domain, from one bus.
public final class BusBackendService<H: Hypervisor>: Sendable {
    private let hypervisor: H
    private let member: BusMember
    private let log: @Sendable (String) -> Void
    private let server = DeviceServer<BusDriver>()
    private let interrupts = InterruptTable()

    /// - Parameters:
    ///   - member: of the bus whose devices the domains' toolstack may give away, all of them.
    ///   - log: gets one line for each thing worth knowing.
    public init(hypervisor: H, member: BusMember, log: @escaping @Sendable (String) -> Void = { _ in }) {
        self.hypervisor = hypervisor
        self.member = member
        self.log = log
    }

    /// Ends `run`: devices are disconnected.
    public func stop() { server.stop() }

    /// Serves until `stop` or until the store is gone.
    public func run() throws(BackendError) {
        let runtime = try BackendRuntime(
            hypervisor, name: "busback", kind: .busDevice, reactors: 1, polling: .sleep, journalDirectory: nil)
        defer { runtime.stop() }
        let reactor = runtime.reactors[0]
        do throws(XenbusError) {
            try server.run(runtime.store, domain: hypervisor.domain, kind: .busDevice, period: 0) { path in
                let (server, id) = (server, path.device)
                return BackendFollower(
                    path: path,
                    driver: BusDriver(
                        path: path, hypervisor: hypervisor, member: member, reactor: reactor, interrupts: interrupts,
                        report: { server.post(id, $0) }, log: log),
                    time: hypervisor.time, log: log)
            } publish: { _ in
            }
        } catch { throw .store(error) }
    }
}
