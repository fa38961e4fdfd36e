// A transaction: the nodes it touched, as it sees them. Starting one copies nothing; the first touch of a node copies
// that node.

import XenStore
import XenTypes

/// What a transaction has read and changed since it began.
struct StoreOverlay: Sendable {
    /// One touched node.
    struct Access: Sendable {
        /// The committed generation at the first touch; nil: there was no node.
        let base: UInt64?
        /// The permissions at the first touch, for who may hear of a removal.
        let basePermissions: [StorePermission]?
        /// As the transaction sees it; nil: no node.
        var node: StoreNode?
        var modified = false
    }

    /// A change to report if the transaction commits.
    struct Event: Sendable {
        let path: StorePath
        /// Only watches on exactly this path (a node removed with its parent).
        var exact: Bool
    }

    private(set) var accesses: [StorePath: Access] = [:]
    private(set) var events: [Event] = []
    private var eventIndex: [StorePath: Int] = [:]
    /// Bytes of copies held.
    private(set) var bytes = 0
    /// Nodes by which each owner's count would change.
    private(set) var ownedDelta: [DomainID: Int] = [:]
    /// Set when a domain that it names died: committing would give the dead one's rights to the next domain of that
    /// number.
    var isDoomed = false

    /// Records the first touch of a node.
    mutating func touch(_ path: StorePath, _ node: StoreNode?) {
        accesses[path] = Access(base: node?.generation, basePermissions: node?.permissions, node: node)
        bytes += path.length + (node?.size ?? 0)
    }

    /// Changes a node that was touched before.
    mutating func set(_ path: StorePath, _ node: StoreNode?) {
        guard var access = accesses[path] else { return }
        if let old = access.node { ownedDelta[old.owner, default: 0] -= 1 }
        if let node { ownedDelta[node.owner, default: 0] += 1 }
        bytes += (node?.size ?? 0) - (access.node?.size ?? 0)
        access.node = node
        access.modified = true
        accesses[path] = access
    }

    /// Keeps one event for each path; a wider one replaces an exact one, not the other way round.
    mutating func queue(_ event: Event) {
        if let index = eventIndex[event.path] {
            if !event.exact { events[index].exact = false }
        } else {
            eventIndex[event.path] = events.count
            events.append(event)
        }
    }

    /// Whether a change of it names `domain`.
    func names(_ domain: DomainID) -> Bool {
        accesses.values.contains { $0.modified && $0.node?.permissions.contains { $0.domain == domain } == true }
    }
}
