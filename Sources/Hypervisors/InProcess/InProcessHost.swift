// A hypervisor inside one process, for tests and simulations: the same rules as the daemon's (HypervisorCore), with
// memory, bells and a store of its own, domains that can be killed, and faults that can be asked for.

import Hypervisor
import HypervisorRules
import LinuxSystem
import SharedMemory
import Synchronization
import XenStoreServer
import XenTypes

/// The host of a test's domains. Thread-safe.
public final class InProcessHost: Sendable {
    private let state: Mutex<HostState>
    /// The store that the host's domains share.
    public let store: StoreServer
    let time: any TimeSource
    /// Whether the store has a thread of its own; else each request is served on its caller's.
    let hasThread: Bool

    /// Makes a host with domain 0 in it.
    /// - Parameters:
    ///   - store: one of the caller's; nil: a new one.
    ///   - time: the clock of all its domains.
    ///   - hasThread: whether the store gets a thread of its own; without one nothing happens but what is called.
    public init(
        limits: HypervisorLimits = HypervisorLimits(), store: StoreServer? = nil, time: some TimeSource, hasThread: Bool = true
    ) {
        let store = store ?? StoreServer(time: time)
        self.store = store
        self.time = time
        self.hasThread = hasThread
        if hasThread {
            do { try store.start() } catch { preconditionFailure("a test's store does not start: \(error)") }
        }
        state = Mutex(HostState(limits: limits))
        domain(0).disconnect()
    }

    /// A new connection of domain `number`, which is made if it does not exist; each stands for a process of its own.
    public func domain(_ number: UInt16) -> InProcessHypervisor {
        let id = DomainID(number)
        let connection = state.withLock { state in
            if !state.core.exists(id), (try? state.core.createDomain(id)) != nil { store.introduceDomain(id) }
            guard let connection = try? state.core.connect(id) else {
                preconditionFailure("a test asked for more domains or connections than its limits allow")
            }
            return connection
        }
        return InProcessHypervisor(host: self, domain: id, connection: connection)
    }

    /// Destroys a domain with all its connections.
    public func destroy(_ domain: DomainID) {
        run { state in try? state.core.destroyDomain(domain) }
        store.domainDied(domain)
    }

    /// Kills one process: everything that it held is released.
    func close(_ connection: ConnectionID) {
        run { state in
            state.core.close(connection)
            state.tables[connection] = nil
        }
    }

    /// What is in use; tests hold it against a baseline.
    public var usage: HypervisorUsage { state.withLock { $0.core.usage } }

    // MARK: Faults

    /// Makes the `number`-th map from now on (1 is the next) fail with `status`.
    public func failMap(number: Int, with status: GrantStatus) {
        state.withLock { $0.faults.failingMaps[$0.faults.mapsSeen + number] = status }
    }

    /// Makes every map fail with `status`; nil ends that.
    public func failEveryMap(with status: GrantStatus?) { state.withLock { $0.faults.failEveryMap = status } }

    /// Loses every `n`-th notification; nil ends that.
    public func dropNotifications(every n: Int?) { state.withLock { $0.faults.dropEvery = n } }

    /// Asks somebody what becomes of each notification; nil: they arrive, but for what else was asked for.
    public func decideNotifications(_ fate: (@Sendable () -> NotificationFate)?) { state.withLock { $0.faults.fate = fate } }

    /// Rings what `NotificationFate.late` has kept; returns how many there were.
    @discardableResult
    public func ringLate() -> Int {
        run { state in
            let late = state.faults.late
            state.faults.late = []
            for (port, connection) in late { try? state.core.notify(port, by: connection) }
            return late.count
        }
    }

    /// Asks somebody whether the next map fails, and with what; nil: it does not, but for what else was asked for.
    public func decideMaps(_ fate: (@Sendable () -> GrantStatus?)?) { state.withLock { $0.faults.mapFate = fate } }

    /// Rings twice for every notification, masked or not.
    public func duplicateNotifications(_ on: Bool) { state.withLock { $0.faults.duplicates = on } }

    /// How many maps were asked for so far.
    public var mapsSeen: Int { state.withLock { $0.faults.mapsSeen } }

    // MARK: For the connections

    /// Runs one operation on the rules and does what follows from it.
    func run<R, E: Error>(_ body: (inout HostState) throws(E) -> sending R) throws(E) -> sending R {
        try state.withLock { state throws(E) in
            defer { state.settle() }
            return try body(&state)
        }
    }
}

/// What becomes of a notification.
public enum NotificationFate: Sendable, Equatable, CaseIterable {
    /// What should.
    case arrives
    /// Nobody hears of it.
    case lost
    /// The bell rings once more, masked or not.
    case doubled
    /// It arrives when `InProcessHost.ringLate` is called.
    case late
}

/// What the host's lock guards.
struct HostState {
    struct Faults {
        var mapsSeen = 0
        var failingMaps: [Int: GrantStatus] = [:]
        var failEveryMap: GrantStatus?
        var notifications = 0
        var dropEvery: Int?
        var duplicates = false
        var fate: (@Sendable () -> NotificationFate)?
        var late: [(EventPort, ConnectionID)] = []
        var mapFate: (@Sendable () -> GrantStatus?)?
    }

    let core: HypervisorCore
    var memory: [RunID: RunMemory] = [:]
    var bells: [PortID: WakePipe] = [:]
    var tables: [ConnectionID: GranterTable] = [:]
    /// References of runs given up while mapped, freed when the last mapping ends.
    var deferred: [RunID: [GrantReference]] = [:]
    var faults = Faults()

    init(limits: HypervisorLimits) { core = HypervisorCore(limits: limits) }

    /// Does what the rules ask for, until they ask for nothing.
    mutating func settle() {
        var more = true
        while more {
            more = core.reap()
            for effect in core.takeEffects() { apply(effect) }
        }
    }

    private mutating func apply(_ effect: CoreEffect) {
        switch effect {
        case .runReleased(let run, let owner, let wasDeferred):
            memory[run] = nil
            guard wasDeferred, let references = deferred.removeValue(forKey: run) else { return }
            for reference in references { _ = tables[owner]?.end(reference) }
        case .ring(let port), .rungAtEnd(let port):
            if let bell = bells[port] { signalPipe(bell.writer) }
        case .portClosed(let port):
            bells[port] = nil
        case .connectionReleased(let connection):
            tables[connection] = nil
        case .peerClosed, .connectionEnded:
            break
        }
    }

    /// Counts one map and says whether a fault was asked for it.
    mutating func faultOfNextMap() -> GrantStatus? {
        faults.mapsSeen += 1
        return faults.failingMaps.removeValue(forKey: faults.mapsSeen) ?? faults.failEveryMap ?? faults.mapFate?()
    }

    /// Counts one notification and says what becomes of it.
    mutating func fateOfNextNotification() -> NotificationFate {
        faults.notifications += 1
        if let every = faults.dropEvery, every > 0, faults.notifications % every == 0 { return .lost }
        if faults.duplicates { return .doubled }
        return faults.fate?() ?? .arrives
    }
}

/// A run's pages: one view for its owner, one for its peer, read-only if the run is, so that a stray write faults here
/// too.
struct RunMemory: Sendable {
    let memory: SealedMemory
    let granterView: SharedRegion
    let mapperView: SharedRegion

    init(pages: Int, access: GrantAccess) throws(Errno) {
        memory = try SealedMemory("causeway-run", byteCount: pages * SharedRegion.pageSize, final: false)
        granterView = try SharedRegion(mapping: memory.descriptor, byteCount: memory.byteCount, writable: true)
        mapperView = try SharedRegion(
            mapping: memory.descriptor, byteCount: memory.byteCount, writable: access == .readWrite)
    }
}
