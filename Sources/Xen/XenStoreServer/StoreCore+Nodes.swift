// The requests on nodes. Each checks everything first and then changes everything: there is no half-made node
// (attacks.md XS15, XS16).

import XenStore

extension StoreCore {
    mutating func read(
        _ arguments: StoreArguments, _ who: Requester, _ overlay: inout StoreOverlay?
    ) throws(StoreErrorName) -> [UInt8] {
        try readable(arguments.single(), who, &overlay).value
    }

    mutating func directory(
        _ arguments: StoreArguments, _ who: Requester, _ overlay: inout StoreOverlay?
    ) throws(StoreErrorName) -> [UInt8] {
        wireStrings(try readable(arguments.single(), who, &overlay).children)
    }

    /// The list from a byte offset on, behind the node's generation; an empty string ends the last part.
    mutating func directoryPart(
        _ arguments: StoreArguments, _ who: Requester, _ overlay: inout StoreOverlay?
    ) throws(StoreErrorName) -> [UInt8] {
        let strings = try arguments.all()
        guard strings.count == 2, let offset = UInt32(String(decoding: strings[1], as: UTF8.self)) else { throw .EINVAL }
        let node = try readable(strings[0], who, &overlay)
        var out = wireStrings([String(node.generation)])
        var position = 0
        for name in node.children {
            let next = position + name.utf8.count + 1
            // An offset inside a name (the list changed meanwhile) starts at the next; the generation tells the client.
            if position >= Int(offset) {
                // One byte is kept for the end mark.
                guard out.count + name.utf8.count + 2 <= StoreWire.payloadMax else { return out }
                out += name.utf8
                out.append(0)
            }
            position = next
        }
        out.append(0)
        return out
    }

    mutating func getPermissions(
        _ arguments: StoreArguments, _ who: Requester, _ overlay: inout StoreOverlay?
    ) throws(StoreErrorName) -> [UInt8] {
        wireStrings(try readable(arguments.single(), who, &overlay).permissions.map(\.wire))
    }

    private mutating func readable(
        _ raw: ArraySlice<UInt8>, _ who: Requester, _ overlay: inout StoreOverlay?
    ) throws(StoreErrorName) -> StoreNode {
        let path = try StorePath(raw, from: who.domain)
        guard let node = try permitted(path, who, &overlay, who.mayRead) else { throw .ENOENT }
        return node
    }

    mutating func write(
        _ arguments: StoreArguments, _ who: Requester, _ overlay: inout StoreOverlay?
    ) throws(StoreErrorName) -> [UInt8] {
        let (strings, rest) = try arguments.strings(1)
        let path = try StorePath(strings[0], from: who.domain)
        if let old = try permitted(path, who, &overlay, who.mayWrite) {
            var node = old
            node.value = Array(rest)
            try admit(node, replacing: old, who, overlay)
            put(path, node, who, &overlay)
        } else {
            try create(path, value: Array(rest), who, &overlay)
        }
        changed(path, who, &overlay)
        return StoreCore.okay
    }

    mutating func makeDirectory(
        _ arguments: StoreArguments, _ who: Requester, _ overlay: inout StoreOverlay?
    ) throws(StoreErrorName) -> [UInt8] {
        let path = try StorePath(arguments.single(), from: who.domain)
        guard try permitted(path, who, &overlay, who.mayWrite) == nil else { return StoreCore.okay }
        try create(path, value: [], who, &overlay)
        changed(path, who, &overlay)
        return StoreCore.okay
    }

    /// Makes a missing node and the missing ones above it. New nodes take the permissions of the one above; what an
    /// unprivileged domain makes, it owns and pays for.
    private mutating func create(
        _ path: StorePath, value: [UInt8], _ who: Requester, _ overlay: inout StoreOverlay?
    ) throws(StoreErrorName) {
        let lineage = path.lineage
        let base = nearest(lineage, overlay)
        let missing = lineage.count - 1 - base
        try admit(newNodes: missing, who, overlay)
        guard var above = try look(lineage[base], who, &overlay) else { throw .EIO }
        let aboveBefore = above
        above.addChild(lineage[base + 1].name)
        try admit(above, replacing: aboveBefore, who, overlay)

        var permissions = above.permissions
        if !who.isPrivileged, let first = permissions.first { permissions[0] = StorePermission(first.access, who.domain) }
        var made: [(StorePath, StoreNode)] = [(lineage[base], above)]
        var bytes = above.size - aboveBefore.size
        for level in (base + 1)..<lineage.count {
            var node = StoreNode(permissions: permissions)
            if level < lineage.count - 1 { node.addChild(lineage[level + 1].name) } else { node.value = value }
            try admit(node, replacing: nil, who, overlay)
            made.append((lineage[level], node))
            bytes += StoreTree.cost(lineage[level], node)
        }
        try admit(touches: missing - 1, bytes: bytes, who, overlay)
        for (place, node) in made {
            _ = try look(place, who, &overlay)
            put(place, node, who, &overlay)
        }
    }

    mutating func remove(
        _ arguments: StoreArguments, _ who: Requester, _ overlay: inout StoreOverlay?
    ) throws(StoreErrorName) -> [UInt8] {
        let path = try StorePath(arguments.single(), from: who.domain)
        guard try permitted(path, who, &overlay, who.mayWrite) != nil else {
            // Not there already: fine, if there is a place where it could be.
            guard let parent = path.parent, try look(parent, who, &overlay) != nil else { throw .ENOENT }
            return StoreCore.okay
        }
        guard !path.isRoot else { throw .EINVAL }
        try removeSubtree(path, who, &overlay)
        return StoreCore.okay
    }

    /// Removes a node with everything below it.
    mutating func removeSubtree(
        _ path: StorePath, _ who: Requester, _ overlay: inout StoreOverlay?
    ) throws(StoreErrorName) {
        guard let parentPath = path.parent, path != parentPath else { return }
        let doomed = subtree(path, overlay)
        let fresh = doomed.filter { overlay?.accesses[$0] == nil }
        try admit(
            touches: fresh.count + 1, bytes: overlay == nil ? 0 : fresh.reduce(0) { $0 + StoreTree.cost($1, peek($1, overlay)) },
            who, overlay)
        if var parent = try look(parentPath, who, &overlay) {
            parent.removeChild(path.name)
            put(parentPath, parent, who, &overlay)
        }
        for place in doomed {
            let old = try look(place, who, &overlay)
            put(place, nil, who, &overlay)
            changed(place, exact: place != path, before: old?.permissions, who, &overlay)
        }
    }

    /// A node's path and those of everything below it, the deepest last. A loop with its own stack, whatever the depth
    /// (attacks.md XS19).
    func subtree(_ path: StorePath, _ overlay: StoreOverlay?) -> [StorePath] {
        var found: [StorePath] = []
        var open = [path]
        while let next = open.popLast() {
            guard let node = peek(next, overlay) else { continue }
            found.append(next)
            open += node.children.lazy.map(next.child)
        }
        return found
    }

    mutating func setPermissions(
        _ arguments: StoreArguments, _ who: Requester, _ overlay: inout StoreOverlay?
    ) throws(StoreErrorName) -> [UInt8] {
        let strings = try arguments.all()
        guard strings.count >= 2 else { throw .EINVAL }
        if !who.isPrivileged && strings.count - 1 > limits.permissions { throw .ENOSPC }
        var permissions: [StorePermission] = []
        for text in strings.dropFirst() {
            guard let entry = StorePermission(wire: String(decoding: text, as: UTF8.self)) else { throw .EINVAL }
            permissions.append(entry)
        }
        let path = try StorePath(strings[0], from: who.domain)
        permissions = try acquaint(permissions, who)
        if path.isSpecial {
            try setSpecial(path, permissions, who)
            return StoreCore.okay
        }
        guard let old = try permitted(path, who, &overlay, { who.rights($0).isOwner }) else { throw .ENOENT }
        // Giving a node away would give the quota away (attacks.md XS13).
        if !who.isPrivileged && permissions.first?.domain != old.owner { throw .EPERM }
        var node = old
        node.permissions = permissions
        try admit(node, replacing: old, who, overlay)
        put(path, node, who, &overlay)
        changed(path, before: old.permissions, who, &overlay)
        return StoreCore.okay
    }

    /// Entries for domains that do not exist: a privileged client is believed that they are about to; anyone else's are
    /// left out, so that they cannot wait for a domain to come (attacks.md XS7, XS18).
    private mutating func acquaint(_ permissions: [StorePermission], _ who: Requester) throws(StoreErrorName) -> [StorePermission] {
        if who.isPrivileged {
            for entry in permissions { know(entry.domain) }
            return permissions
        }
        guard let first = permissions.first, domains[first.domain] != nil else { throw .ENOENT }
        return [first] + permissions.dropFirst().filter { domains[$0.domain] != nil }
    }

    private mutating func setSpecial(
        _ path: StorePath, _ permissions: [StorePermission], _ who: Requester
    ) throws(StoreErrorName) {
        guard let old = specialPermissions[path] else { throw .EINVAL }
        guard who.rights(old).isOwner else { throw .EACCES }
        if !who.isPrivileged && permissions.first?.domain != old.first?.domain { throw .EPERM }
        specialPermissions[path] = permissions
    }
}

extension StoreTree {
    static func cost(_ path: StorePath, _ node: StoreNode?) -> Int { path.length + (node?.size ?? 0) }
}
