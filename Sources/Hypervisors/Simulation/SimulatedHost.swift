// A host whose domains do nothing but what they are called for: no thread, no clock and no chance but the simulation's.

import HypervisorRules
import InProcess
import LinuxSystem
import XenStore
import XenTypes

/// One simulated host: the hypervisor's rules, the store's, and faults.
public struct SimulatedHost: Sendable {
    /// Its time.
    public let clock: SimulatedClock
    /// Its chance.
    public let chance: Chance
    /// What goes wrong.
    public let faults: FaultInjector
    /// What happened.
    public let trace: SimulationTrace
    /// The hypervisor and its store.
    public let hypervisors: InProcessHost

    /// A host with domain 0 in it.
    /// - Parameters:
    ///   - kinds: the faults that may happen.
    ///   - keepsTrace: whether the trace's lines can be had at the end.
    public init(seed: UInt64, kinds: Set<FaultKind>, keepsTrace: Bool) {
        let clock = SimulatedClock(), chance = Chance(seed: seed)
        let faults = FaultInjector(chance, kinds: kinds)
        self.clock = clock
        self.chance = chance
        self.faults = faults
        trace = SimulationTrace(keepsLines: keepsTrace, time: clock)
        hypervisors = InProcessHost(time: clock, hasThread: false)
        hypervisors.decideNotifications {
            if faults.happens(.eventLost, oneIn: 40) { return .lost }
            if faults.happens(.eventDoubled, oneIn: 40) { return .doubled }
            return faults.happens(.eventLate, oneIn: 20) ? .late : .arrives
        }
        hypervisors.decideMaps { faults.happens(.mapRefused, oneIn: 300) ? .noSpace : nil }
    }

    /// A client of the store's in the host's own name.
    public func store() throws(StoreError) -> StoreClient { try hypervisors.store.connectOnCallersThread(domain: .zero) }

    /// A new process of a domain.
    public func process(of domain: DomainID) -> InProcessHypervisor { hypervisors.domain(domain.rawValue) }

    /// Kills a process with its connections to the store.
    public func kill(_ process: InProcessHypervisor) {
        process.disconnect()
        hypervisors.store.disconnect(domain: process.domain)
    }
}
