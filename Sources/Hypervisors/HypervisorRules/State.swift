// What the core remembers of each domain, connection, run and port. Classes, so that a change is made in place.

import XenTypes

/// A page of the granter's table.
final class TableFrame {
    /// The process that writes it; nil once that is gone, when the page only waits for its last mapping to end.
    var owner: ConnectionID?
    let entries: any GrantTableFrame
    /// Entries with a pin.
    var pinned = 0

    init(owner: ConnectionID, entries: any GrantTableFrame) {
        self.owner = owner
        self.entries = entries
    }
}

/// What the hypervisor remembers of an entry while it is mapped; from here on the shared entry decides nothing any
/// more.
struct ActiveGrant {
    let grantee: DomainID
    let granteeLife: DomainLife
    let run: RunID
    let page: Int
    var readPins = 0
    var writePins = 0
    var pins: Int { readPins + writePins }
}

final class DomainState {
    let id: DomainID
    let life: DomainLife
    var isDying = false
    var connections: Set<ConnectionID> = []
    /// The grant table's pages by number; nil where one was given back.
    var table: [TableFrame?] = []
    var active: [UInt32: ActiveGrant] = [:]
    var maptrack: Maptrack
    /// Pseudo-physical frame to run.
    var frames: [UInt32: RunID] = [:]
    var nextFrame: UInt32 = 0x1000
    var runCount = 0
    var pageCount = 0
    var ports: [UInt32: PortState] = [:]
    var nextPort: UInt32 = 1
    /// Who hears each virtual interrupt.
    var virtualPorts: [UInt32: PortState] = [:]

    init(id: DomainID, life: DomainLife, limits: HypervisorLimits) {
        self.id = id
        self.life = life
        maptrack = Maptrack(limit: limits.maptrack)
    }

    /// Destroyed, and everything that its processes held is released.
    var isGone: Bool { isDying && connections.isEmpty }

    func permittedGrants() -> Int {
        table.reduce(0) { sum, frame in
            guard let frame, frame.owner != nil else { return sum }
            return sum
                + (0..<grantsPerTableFrame).count {
                    frame.entries.header($0).flags.intersection(.typeMask) == .permitAccess
                }
        }
    }

    /// The table's page that `reference` lies in, as long as its writer lives.
    func tableFrame(_ reference: GrantReference) -> TableFrame? {
        let index = Int(reference.rawValue) / grantsPerTableFrame
        guard reference.rawValue >= reservedGrants, index < table.count, let frame = table[index] else { return nil }
        return frame
    }
}

final class ConnectionState {
    let id: ConnectionID
    let domain: DomainState
    var isDying = false
    var runs: Set<RunID> = []
    var ports: Set<PortID> = []
    var tableFrames: [Int] = []
    var mappings = 0
    /// What is to be done when a mapping or a run of it ends.
    var notices: [EndNoticeSubject: EndNotice] = [:]
    /// Those that `reap` has still to carry out; nil before it begins.
    var lastNotices: [EndNoticeSubject]?
    /// How far `reap` has looked through the domain's maptrack.
    var reapedSlots = 0

    init(id: ConnectionID, domain: DomainState) {
        self.id = id
        self.domain = domain
    }
}

final class RunState {
    let id: RunID
    let owner: ConnectionID
    let domain: DomainState
    let peer: DomainID
    let access: GrantAccess
    let firstFrame: UInt32
    let pageCount: Int
    let machine: MachineRun
    /// A read-only run may be mapped only after its owner mapped it and further writers were forbidden.
    var isArmed: Bool
    /// Given up by its owner: no new mapping.
    var isRetired = false
    /// Mappings of all its pages.
    var pins = 0

    /// - Parameters:
    ///   - connection: whose run it is.
    ///   - frames: its pages in the domain's pseudo-physical space.
    init(
        id: RunID, of connection: ConnectionState, to peer: DomainID, access: GrantAccess, frames: Range<UInt32>,
        machine: MachineRun
    ) {
        self.id = id
        owner = connection.id
        domain = connection.domain
        self.peer = peer
        self.access = access
        firstFrame = frames.lowerBound
        pageCount = frames.count
        self.machine = machine
        isArmed = access == .readWrite
    }
}

final class PortState {
    enum Link {
        /// Waits for `remote` to bind (`ECS_UNBOUND`).
        case unbound(remote: DomainID)
        /// `ECS_INTERDOMAIN`.
        case bound(PortState)
        /// `ECS_VIRQ`: rung by the hypervisor alone.
        case virtual(UInt32)
    }
    let id: PortID
    let port: EventPort
    let domain: DomainState
    let owner: ConnectionID
    var link: Link
    var isMasked = false
    var isPending = false

    init(id: PortID, port: EventPort, domain: DomainState, owner: ConnectionID, link: Link) {
        self.id = id
        self.port = port
        self.domain = domain
        self.owner = owner
        self.link = link
    }
}
