// Looking at nodes and changing them, inside a transaction or outside, with the permission rules and quotas.

import XenStore

extension StoreCore {
    /// The node as the requester's view has it. In a transaction the touch is recorded: it takes part in the conflict
    /// check.
    mutating func look(
        _ path: StorePath, _ who: Requester, _ overlay: inout StoreOverlay?
    ) throws(StoreErrorName) -> StoreNode? {
        guard overlay != nil else { return tree[path] }
        if let access = overlay?.accesses[path] { return access.node }
        let node = tree[path]
        try admit(touches: 1, bytes: path.length + (node?.size ?? 0), who, overlay)
        overlay?.touch(path, node)
        return node
    }

    /// The node as the view has it, leaving no trace.
    func peek(_ path: StorePath, _ overlay: StoreOverlay?) -> StoreNode? {
        if let access = overlay?.accesses[path] { return access.node }
        return tree[path]
    }

    /// Stores or removes a node in the view. In a transaction the path was looked at before.
    mutating func put(_ path: StorePath, _ node: StoreNode?, _ who: Requester, _ overlay: inout StoreOverlay?) {
        if overlay == nil { tree.set(path, node, by: who.domain) } else { overlay?.set(path, node) }
    }

    /// The node, if it is there and its entries allow what `allows` asks. A refusal says no more than the nearest node
    /// above would let the requester learn.
    mutating func permitted(
        _ path: StorePath, _ who: Requester, _ overlay: inout StoreOverlay?, _ allows: ([StorePermission]) -> Bool
    ) throws(StoreErrorName) -> StoreNode? {
        if path.isSpecial { throw .EINVAL }
        if let node = try look(path, who, &overlay) {
            guard allows(node.permissions) else { throw .EACCES }
            return node
        }
        // Touched too: in a transaction this answer must still be true at commit.
        let lineage = path.lineage
        guard let above = try look(lineage[nearest(lineage, overlay)], who, &overlay), allows(above.permissions)
        else { throw .EACCES }
        return nil
    }

    /// The level of the deepest existing node on the way to a missing one. By bisection: a path may name 1500 levels.
    func nearest(_ lineage: StorePath.Lineage, _ overlay: StoreOverlay?) -> Int {
        var (there, missing) = (0, lineage.count - 1)
        while missing - there > 1 {
            let middle = (there + missing) / 2
            if peek(lineage[middle], overlay) != nil { there = middle } else { missing = middle }
        }
        return there
    }

    // MARK: Quotas

    /// Whether the domain may touch so many more nodes and hold so many more bytes.
    func admit(touches: Int, bytes: Int, _ who: Requester, _ overlay: StoreOverlay?) throws(StoreErrorName) {
        guard !who.isPrivileged else { return }
        if let overlay, overlay.accesses.count + touches > limits.transactionNodes { throw .ENOSPC }
        if bytes > 0 { try admit(bytes: bytes, who, overlay) }
    }

    /// Whether the domain may hold so many more bytes. The running transaction was taken out of the account and is
    /// added here.
    func admit(bytes: Int, _ who: Requester, _ overlay: StoreOverlay?) throws(StoreErrorName) {
        guard !who.isPrivileged else { return }
        if usage(of: who.domain).memory + (overlay?.bytes ?? 0) + bytes > limits.memory { throw .ENOMEM }
    }

    /// Whether a node of this content may be stored.
    func admit(_ node: StoreNode, replacing old: StoreNode?, _ who: Requester, _ overlay: StoreOverlay?) throws(StoreErrorName) {
        guard !who.isPrivileged else { return }
        if node.size >= limits.nodeSize { throw .ENOSPC }
        let growth = node.size - (old?.size ?? 0)
        if growth > 0 { try admit(bytes: growth, who, overlay) }
    }

    /// Whether the domain may own so many more nodes, what its transaction made counted in.
    func admit(newNodes: Int, _ who: Requester, _ overlay: StoreOverlay?) throws(StoreErrorName) {
        guard !who.isPrivileged else { return }
        let owned = tree.account(who.domain).nodes + (overlay?.ownedDelta[who.domain] ?? 0)
        if owned + newNodes > limits.nodes { throw .ENOSPC }
    }
}
