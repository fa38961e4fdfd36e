// Domains: how the store learns of them, and what goes when one dies.

import XenStore
import XenTypes

extension StoreCore {
    /// Makes a record for a domain that is there or about to be.
    mutating func know(_ domain: DomainID) {
        if domains[domain] == nil { domains[domain] = ServedDomain() }
    }

    /// Notes that a domain is ready to be talked to and announces it; a second time begins its connections' lives anew.
    public mutating func introduceDomain(_ domain: DomainID) {
        know(domain)
        if domains[domain]?.isIntroduced == true {
            for id in domains[domain]?.connections ?? [] where domain != .zero {
                dropWatches(of: id)
                dropTransactions(of: id)
            }
            return
        }
        domains[domain]?.isIntroduced = true
        fire(.introduceDomain, exact: true, before: nil)
    }

    /// Announces once that a domain has shut down, until it is resumed.
    public mutating func domainShutDown(_ domain: DomainID) {
        guard let known = domains[domain], !known.isShutDown else { return }
        domains[domain]?.isShutDown = true
        fire(.releaseDomain, exact: true, before: nil)
    }

    /// Ends a domain's connections, with their watches and transactions; its nodes and rights stay, for a process that
    /// returns.
    public mutating func disconnectAll(of domain: DomainID) {
        for id in domains[domain]?.connections ?? [] { drop(id, "domain \(domain) was disconnected") }
    }

    /// Ends a domain: its connections, watches and transactions, every node it owns with what is below, and every right
    /// given to it, so that the next domain of that number inherits nothing (attacks.md XS7, XS18, XS20). Announces it
    /// on `@releaseDomain`.
    public mutating func domainDied(_ domain: DomainID) {
        guard domain != .zero else { return }
        let wasKnown = domains[domain] != nil
        disconnectAll(of: domain)
        doomTransactions(naming: domain)
        purgeNodes(of: domain)
        domains[domain] = nil
        for (id, var other) in domains where other.target == domain {
            other.target = nil
            domains[id] = other
        }
        for (path, entries) in specialPermissions { specialPermissions[path] = entries.without(domain) }
        if wasKnown { fire(.releaseDomain, exact: true, before: nil) }
    }

    private mutating func doomTransactions(naming domain: DomainID) {
        for (id, connection) in connections {
            for (number, overlay) in connection.transactions where overlay.names(domain) {
                connections[id]?.transactions[number]?.isDoomed = true
            }
        }
    }

    private mutating func purgeNodes(of domain: DomainID) {
        let system = Requester(connection: StoreConnectionID(number: 0), domain: .zero, target: nil)
        let concerned = tree.nodes.filter { $0.value.permissions.contains { $0.domain == domain } }
        for (path, node) in concerned.sorted(by: { $0.key.text < $1.key.text }) {
            guard tree[path] != nil else { continue }
            var none: StoreOverlay?
            if node.owner == domain && !path.isRoot {
                // Privileged removal outside a transaction meets no limit.
                _ = try? removeSubtree(path, system, &none)
            } else if var left = tree[path] {
                left.permissions = left.permissions.without(domain)
                tree.set(path, left, by: .zero)
            }
        }
    }

    // MARK: Requests

    mutating func introduce(_ arguments: StoreArguments) throws(StoreErrorName) -> [UInt8] {
        let (strings, _) = try arguments.strings(3)
        guard let domain = DomainID(decimal: String(decoding: strings[0], as: UTF8.self)),
            let port = UInt32(String(decoding: strings[2], as: UTF8.self)), port > 0
        else { throw .EINVAL }
        // The frame and the port are Xen's; here the domain's connection is a socket.
        introduceDomain(domain)
        return StoreCore.okay
    }

    mutating func release(_ arguments: StoreArguments) throws(StoreErrorName) -> [UInt8] {
        domainDied(try introducedDomain(arguments))
        return StoreCore.okay
    }

    mutating func resume(_ arguments: StoreArguments) throws(StoreErrorName) -> [UInt8] {
        domains[try introducedDomain(arguments)]?.isShutDown = false
        return StoreCore.okay
    }

    mutating func setTarget(_ arguments: StoreArguments) throws(StoreErrorName) -> [UInt8] {
        let (strings, _) = try arguments.strings(2)
        guard let domain = DomainID(decimal: String(decoding: strings[0], as: UTF8.self)),
            let target = DomainID(decimal: String(decoding: strings[1], as: UTF8.self))
        else { throw .EINVAL }
        guard domains[domain]?.isIntroduced == true, domains[target]?.isIntroduced == true else { throw .ENOENT }
        domains[domain]?.target = target
        return StoreCore.okay
    }

    func isIntroduced(_ arguments: StoreArguments) throws(StoreErrorName) -> [UInt8] {
        let text = String(decoding: try arguments.single(), as: UTF8.self)
        guard let domain = DomainID(decimal: text) else {
            guard text == String(DomainID.myself.rawValue) else { throw .EINVAL }
            return wireStrings(["T"])
        }
        return wireStrings([domains[domain]?.isIntroduced == true ? "T" : "F"])
    }

    func domainPath(_ arguments: StoreArguments) throws(StoreErrorName) -> [UInt8] {
        guard let domain = DomainID(decimal: String(decoding: try arguments.single(), as: UTF8.self)) else { throw .EINVAL }
        return wireStrings([StorePath.home(domain).text])
    }

    private func introducedDomain(_ arguments: StoreArguments) throws(StoreErrorName) -> DomainID {
        guard let domain = DomainID(decimal: String(decoding: try arguments.single(), as: UTF8.self)), domain != .zero
        else { throw .EINVAL }
        guard domains[domain]?.isIntroduced == true else { throw .ENOENT }
        return domain
    }
}

extension [StorePermission] {
    /// Without the entries of a dead domain. The owner's is kept as a place holder: domain 0 takes it over.
    fileprivate func without(_ domain: DomainID) -> [StorePermission] {
        guard let first else { return self }
        let owner = first.domain == domain ? StorePermission(first.access, .zero) : first
        return [owner] + dropFirst().filter { $0.domain != domain }
    }
}
