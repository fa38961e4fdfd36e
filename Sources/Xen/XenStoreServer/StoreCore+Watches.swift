// Watches, and who hears of a change. A watcher hears only of what it may read (attacks.md XS3).

import XenStore
import XenTypes

extension StoreCore {
    mutating func watch(_ arguments: StoreArguments, _ who: Requester) throws(StoreErrorName) -> [UInt8] {
        let watch = try parseWatch(arguments, who)
        if connections[who.connection]?.watches.contains(watch) ?? true { throw .EEXIST }
        if !who.isPrivileged {
            if (domains[who.domain]?.watches ?? 0) >= limits.watches { throw .E2BIG }
            try admit(bytes: watch.cost, who, nil)
        }
        connections[who.connection]?.watches.insert(watch)
        domains[who.domain]?.watches += 1
        domains[who.domain]?.heldBytes += watch.cost
        watches.add(watch, who.connection)
        return StoreCore.okay
    }

    /// A watch fires once when it is set, after its reply: whoever sets it need not look first.
    mutating func announceNewWatch(_ payload: [UInt8], _ who: Requester) {
        guard let watch = try? parseWatch(StoreArguments(payload), who) else { return }
        sendEvent(path: eventPath(watch.path, watch, who.domain), token: watch.token, to: who.connection)
    }

    mutating func unwatch(_ arguments: StoreArguments, _ who: Requester) throws(StoreErrorName) -> [UInt8] {
        let wanted = try parseWatch(arguments, who)
        guard connections[who.connection]?.watches.contains(wanted) ?? false else { throw .ENOENT }
        connections[who.connection]?.watches.remove(wanted)
        domains[who.domain]?.watches -= 1
        domains[who.domain]?.heldBytes -= wanted.cost
        watches.remove(wanted, who.connection)
        return StoreCore.okay
    }

    private func parseWatch(_ arguments: StoreArguments, _ who: Requester) throws(StoreErrorName) -> StoreWatch {
        let (strings, _) = try arguments.strings(2)
        let first = strings[0].first
        return StoreWatch(
            path: try StorePath(strings[0], from: who.domain), token: Array(strings[1]),
            isRelative: first != UInt8(ascii: "/") && first != UInt8(ascii: "@"))
    }

    mutating func dropWatches(of id: StoreConnectionID) {
        guard let domain = connections[id]?.domain, let all = connections[id]?.watches else { return }
        connections[id]?.watches.removeAll()
        domains[domain]?.watches -= all.count
        domains[domain]?.heldBytes -= all.reduce(0) { $0 + $1.cost }
        for path in Set(all.map(\.path)) { watches.removeAll(on: path, id) }
    }

    // MARK: Changes

    /// Reports a change: now, or if the transaction commits.
    mutating func changed(
        _ path: StorePath, exact: Bool = false, before: [StorePermission]? = nil, _ who: Requester, _ overlay: inout StoreOverlay?
    ) {
        if overlay == nil {
            fire(path, exact: exact, before: before)
        } else {
            overlay?.queue(StoreOverlay.Event(path: path, exact: exact))
        }
    }

    /// Sends an event for each watch that a change concerns and whose owner may read the node as it was, as it is, or
    /// the node above (whose list of children shows the change anyway).
    mutating func fire(_ path: StorePath, exact: Bool, before: [StorePermission]?) {
        let concerned = watches.matches(path, exact: exact)
        guard !concerned.isEmpty else { return }
        let entries: [[StorePermission]]
        if path.isSpecial {
            entries = [specialPermissions[path]].compactMap(\.self)
        } else {
            entries = [before, tree[path]?.permissions, path.parent.flatMap { tree[$0]?.permissions }].compactMap(\.self)
        }
        for (id, registered) in concerned {
            guard let domain = connections[id]?.domain else { continue }
            let who = requester(id, domain)
            guard entries.contains(where: who.mayRead) else { continue }
            for watch in registered { sendEvent(path: eventPath(path, watch, domain), token: watch.token, to: id) }
        }
    }

    private func eventPath(_ path: StorePath, _ watch: StoreWatch, _ domain: DomainID) -> String {
        watch.isRelative ? path.relative(to: .home(domain)) : path.text
    }
}
