// The loopback hypervisor's rules as a state machine: domains, their processes' connections, runs of memory, grants and
// event channels. No I/O and no clock: a shell (the daemon, or the in-process host of tests) calls it, one call at a
// time, and then does what `takeEffects` says. Each operation does all of what it says or nothing.

import XenTypes

/// The rules. Not thread-safe: its shell owns it.
public final class HypervisorCore {
    /// What each domain may have.
    public let limits: HypervisorLimits

    /// Live domains and those that are being cleared away.
    var domains: [DomainLife: DomainState] = [:]
    /// Live domains by number.
    var live: [DomainID: DomainState] = [:]
    var connections: [ConnectionID: ConnectionState] = [:]
    var runs: [RunID: RunState] = [:]
    var ports: [PortID: PortState] = [:]
    /// Connections whose resources are still to be released, oldest first.
    var dying: [ConnectionState] = []
    /// Runs given up and still mapped.
    var deferredRuns = 0
    var machine: MachineFrames
    private var effects: [CoreEffect] = []
    private var serial: UInt64 = 0

    /// A host without domains.
    public init(limits: HypervisorLimits = HypervisorLimits()) {
        self.limits = limits
        machine = MachineFrames(seed: limits.machineSeed)
    }

    func nextSerial() -> UInt64 {
        serial += 1
        return serial
    }

    func emit(_ effect: CoreEffect) { effects.append(effect) }

    /// What the shell has to do now, in order; each effect is reported once.
    public func takeEffects() -> [CoreEffect] {
        defer { effects.removeAll(keepingCapacity: true) }
        return effects
    }

    // MARK: Domains

    /// Makes domain `id`, or the lowest free one from 1 on.
    public func createDomain(_ id: DomainID?) throws(CoreError) -> DomainID {
        guard domains.count < limits.domains else { throw .limit("domains", limits.domains) }
        let number: DomainID
        if let id {
            guard id.isOrdinary else { throw .noSuchDomain(id) }
            guard !isTaken(id) else { throw .domainBusy(id) }
            number = id
        } else {
            let taken = Set(domains.values.filter { !$0.isGone }.map(\.id))
            guard let free = (1..<DomainID.myself.rawValue).first(where: { !taken.contains(DomainID($0)) }) else {
                throw .limit("domains", limits.domains)
            }
            number = DomainID(free)
        }
        let domain = DomainState(id: number, life: DomainLife(rawValue: nextSerial()), limits: limits)
        domains[domain.life] = domain
        live[number] = domain
        return number
    }

    /// A number is free again once its last holder's mappings and ports are released, so that no peer takes the one's
    /// for the other's; pages of the old one that peers still hold do not keep it.
    private func isTaken(_ id: DomainID) -> Bool {
        live[id] != nil || domains.values.contains { $0.id == id && !$0.connections.isEmpty }
    }

    /// Ends a domain: its connections are ended at once and released by `reap`.
    public func destroyDomain(_ id: DomainID) throws(CoreError) {
        guard let domain = live.removeValue(forKey: id) else { throw .noSuchDomain(id) }
        domain.isDying = true
        raise(virtualInterrupt: .domainException, in: .zero)
        for connection in domain.connections.sorted(by: { $0.rawValue < $1.rawValue }) {
            emit(.connectionEnded(connection))
            close(connection)
        }
        forgetIfGone(domain)
    }

    /// Whether there is such a domain.
    public func exists(_ id: DomainID) -> Bool { live[id] != nil }
    /// The live domains' numbers, in order.
    public var domainIDs: [DomainID] { live.keys.sorted() }

    func forgetIfGone(_ domain: DomainState) {
        if domain.isGone && domain.active.isEmpty { domains[domain.life] = nil }
    }

    // MARK: Connections

    /// A process of `domain` connects.
    public func connect(_ domain: DomainID) throws(CoreError) -> ConnectionID {
        guard let state = live[domain] else { throw .noSuchDomain(domain) }
        guard state.connections.count < limits.connections else { throw .limit("connections", limits.connections) }
        let connection = ConnectionState(id: ConnectionID(nextSerial()), domain: state)
        connections[connection.id] = connection
        state.connections.insert(connection.id)
        return connection.id
    }

    /// The process is gone: nothing more is done for it, and `reap` releases what it held.
    public func close(_ id: ConnectionID) {
        guard let connection = connections[id], !connection.isDying else { return }
        connection.isDying = true
        dying.append(connection)
    }

    /// The domain of a live connection.
    public func domain(of id: ConnectionID) -> DomainID? {
        guard let connection = connections[id], !connection.isDying else { return nil }
        return connection.domain.id
    }

    func liveConnection(_ id: ConnectionID) throws(CoreError) -> ConnectionState {
        guard let connection = connections[id], !connection.isDying else { throw .noSuchConnection }
        return connection
    }

    // MARK: What is in use

    /// What is in use on the whole host.
    public var usage: HypervisorUsage {
        var usage = HypervisorUsage()
        usage.domains = live.count
        usage.connections = connections.count - dying.count
        usage.dying = dying.count
        usage.runs = runs.count
        usage.deferred = deferredRuns
        usage.ports = ports.count
        for run in runs.values { usage.pages += run.pageCount }
        for domain in domains.values {
            usage.mappings += domain.maptrack.count
            usage.grants += domain.permittedGrants()
        }
        return usage
    }

    /// The most descriptors that a daemon may be keeping open for a domain: two for a run, one for a port, two for a
    /// connection.
    public func descriptors(of id: DomainID) -> Int {
        guard let domain = live[id] else { return 0 }
        return domain.runCount * 2 + domain.ports.count + domain.connections.count * 2
    }

    /// The same for all, those that are being cleared away among them.
    public var descriptors: Int { runs.count * 2 + ports.count + connections.count * 2 }

    /// Pages of the runs that a domain has made.
    public func pages(of id: DomainID) -> Int { live[id]?.pageCount ?? 0 }

    /// What one domain has in use.
    public func usage(of id: DomainID) -> HypervisorUsage? {
        guard let domain = live[id] else { return nil }
        var usage = HypervisorUsage()
        usage.domains = 1
        usage.connections = domain.connections.count
        usage.runs = domain.runCount
        usage.pages = domain.pageCount
        usage.ports = domain.ports.count
        usage.mappings = domain.maptrack.count
        usage.grants = domain.permittedGrants()
        usage.deferred = runs.values.count { $0.domain === domain && $0.isRetired }
        return usage
    }
}
