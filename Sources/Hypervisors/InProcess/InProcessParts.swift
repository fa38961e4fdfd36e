// What the in-process hypervisor hands out: offers, contiguous mappings, channels. Each gives itself back when
// released.

import Hypervisor
import HypervisorRules
import LinuxSystem
import SharedMemory
import Synchronization
import XenTypes

final class InProcessOffer: OfferedPages {
    let region: SharedRegion
    let references: [GrantReference]
    private let hypervisor: InProcessHypervisor
    private let run: RunID
    /// Nil until withdrawn; then whether everything ended at once.
    private let withdrawn = Mutex<Bool?>(nil)

    init(_ hypervisor: InProcessHypervisor, run: RunID, region: SharedRegion, references: [GrantReference]) {
        self.hypervisor = hypervisor
        self.run = run
        self.region = region
        self.references = references
    }

    deinit { withdraw() }

    func isMapped(page: Int) -> Bool? {
        hypervisor.host.run { $0.tables[hypervisor.connection]?.isInUse(references[page]) ?? false }
    }

    @discardableResult func withdraw() -> Bool {
        withdrawn.withLock { withdrawn in
            if let withdrawn { return withdrawn }
            let connection = hypervisor.connection
            let ended = hypervisor.host.run { state in
                let left = references.filter { !(state.tables[connection]?.end($0) ?? true) }
                if !left.isEmpty { state.deferred[run] = left }
                let released = (try? state.core.retireRun(run, by: connection)) ?? true
                return released && left.isEmpty
            }
            withdrawn = ended
            return ended
        }
    }
}

final class InProcessContiguous: ContiguousGrants {
    let region: SharedRegion
    private let hypervisor: InProcessHypervisor
    private let grants: Mutex<[MappedGrant]>

    init(_ hypervisor: InProcessHypervisor, region: SharedRegion, grants: [MappedGrant]) {
        self.hypervisor = hypervisor
        self.region = region
        self.grants = Mutex(grants)
    }

    deinit { unmap() }

    func unmap() {
        let taken = grants.withLock { grants in
            defer { grants = [] }
            return grants
        }
        hypervisor.unmapGrants(taken)
    }
}

final class InProcessChannel: EventChannel {
    let port: EventPort
    private let bell: WakePipe
    private let hypervisor: InProcessHypervisor
    private let isClosed = Atomic<Bool>(false)

    init(_ hypervisor: InProcessHypervisor, port: EventPort, bell: WakePipe) {
        self.hypervisor = hypervisor
        self.port = port
        self.bell = bell
    }

    deinit { close() }

    var descriptor: Descriptor { bell.reader }

    @discardableResult func acknowledge() -> Bool {
        change(otherwise: false) { state, connection throws(CoreError) in
            drainPipe(bell.reader)
            try state.core.mask(port, by: connection)
            return try state.core.takePending(port, by: connection)
        }
    }

    func unmask() {
        change(otherwise: ()) { state, connection throws(CoreError) in try state.core.unmask(port, by: connection) }
    }

    func notify() {
        change(otherwise: ()) { state, connection throws(CoreError) in
            switch state.fateOfNextNotification() {
            case .lost: break
            case .late: state.faults.late.append((port, connection))
            case .arrives: try state.core.notify(port, by: connection)
            case .doubled:
                try state.core.notify(port, by: connection)
                state.ringTwice(port, by: connection)
            }
        }
    }

    func close() {
        guard !isClosed.exchange(true, ordering: .acquiringAndReleasing) else { return }
        hypervisor.host.run { state in try? state.core.closePort(port, by: hypervisor.connection) }
    }

    /// A closed channel's number may be another's by now, so nothing more is done under it.
    private func change<R: Sendable>(
        otherwise: R, _ body: (inout HostState, ConnectionID) throws(CoreError) -> R
    ) -> R {
        hypervisor.host.run { state in
            guard !isClosed.load(ordering: .acquiring) else { return otherwise }
            return (try? body(&state, hypervisor.connection)) ?? otherwise
        }
    }
}

extension HostState {
    /// The fault that rings a bell that need not ring.
    func ringTwice(_ port: EventPort, by connection: ConnectionID) {
        guard let peer = core.peer(of: port, by: connection), let bell = bells[peer] else { return }
        signalPipe(bell.writer)
    }
}
