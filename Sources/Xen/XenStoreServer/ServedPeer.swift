// What the server keeps for each connection and for each domain.

import XenStore
import XenTypes

/// One connection.
struct ServedConnection: Sendable {
    let domain: DomainID
    var parser = StoreMessageParser()
    var output = OutputQueue()
    var transactions: [UInt32: StoreOverlay] = [:]
    var lastTransaction: UInt32 = 0
    var watches: Set<StoreWatch> = []

    /// Opens a transaction under a number that is not in use.
    mutating func beginTransaction() -> UInt32 {
        repeat { lastTransaction &+= 1 } while lastTransaction == 0 || transactions[lastTransaction] != nil
        transactions[lastTransaction] = StoreOverlay()
        return lastTransaction
    }
}

/// One domain, known from its first connection, its introduction, or the first time that a privileged client names it.
struct ServedDomain: Sendable {
    var isIntroduced = false
    /// Set at shutdown, so that it is announced once; `RESUME` clears it.
    var isShutDown = false
    var target: DomainID?
    var connections: Set<StoreConnectionID> = []
    var watches = 0
    var transactions = 0
    /// Bytes in watches and transactions.
    var heldBytes = 0
    /// Requests wait until then (nanoseconds of the owner's clock).
    var heldUntil: UInt64 = 0
    /// How often it was held in a row; doubles the next hold.
    var holds: UInt64 = 0
}

/// Who asks: taken from the connection, once a request.
struct Requester {
    let connection: StoreConnectionID
    let domain: DomainID
    let target: DomainID?
    var isPrivileged: Bool { domain == .zero }

    /// What the entries of a node let this one do; the second value says whether it counts as the owner.
    func rights(_ permissions: [StorePermission]) -> (access: StorePermission.Access, isOwner: Bool) {
        if isPrivileged { return (.both, true) }
        guard let first = permissions.first else { return (.none, false) }
        if first.domain == domain || first.domain == target { return (.both, true) }
        let own = permissions.dropFirst().first { $0.domain == domain || $0.domain == target }
        return ((own ?? first).access, false)
    }

    func mayRead(_ permissions: [StorePermission]) -> Bool { rights(permissions).access.mayRead }
    func mayWrite(_ permissions: [StorePermission]) -> Bool { rights(permissions).access.mayWrite }
}
