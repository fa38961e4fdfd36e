// What must hold between any two requests, checked by walking everything. For tests, the fuzzer and `xenstore-control
// check`.

import XenStore
import XenTypes

extension StoreCore {
    /// Every fault found; empty: the store is sound.
    public func checkInvariants() -> [String] {
        checkTree() + checkAccounts() + checkWatches()
    }

    private func checkTree() -> [String] {
        var faults: [String] = []
        if tree[.root] == nil { faults.append("no root") }
        var listed = 1
        for (path, node) in tree.nodes {
            if node.permissions.isEmpty { faults.append("\(path): no owner") }
            if Set(node.children).count != node.children.count { faults.append("\(path): a child twice") }
            if node.childrenSize != wireStrings(node.children).count { faults.append("\(path): children's size") }
            listed += node.children.count
            for name in node.children where tree[path.child(name)] == nil { faults.append("\(path): no child \(name)") }
            for entry in node.permissions where domains[entry.domain] == nil {
                faults.append("\(path): a right for domain \(entry.domain), which does not exist")
            }
        }
        if listed != tree.nodes.count { faults.append("\(tree.nodes.count) nodes, \(listed) listed by their parents") }
        return faults
    }

    private func checkAccounts() -> [String] {
        var faults: [String] = []
        var owned: [DomainID: (nodes: Int, bytes: Int)] = [:]
        for (path, node) in tree.nodes {
            owned[node.owner, default: (0, 0)].nodes += 1
            owned[node.owner, default: (0, 0)].bytes += StoreTree.cost(path, node)
        }
        for domain in Set(owned.keys).union(tree.owners) {
            let (real, account) = (owned[domain] ?? (0, 0), tree.account(domain))
            if real != account { faults.append("domain \(domain): owns \(real), account says \(account)") }
        }
        for (domain, state) in domains {
            let mine = connections.filter { $0.value.domain == domain }
            if Set(mine.keys) != state.connections { faults.append("domain \(domain): connections") }
            let transactions = mine.values.reduce(0) { $0 + $1.transactions.count }
            if transactions != state.transactions { faults.append("domain \(domain): \(state.transactions) transactions counted") }
            let bytes = mine.values.reduce(0) { sum, connection in
                sum + connection.watches.reduce(0) { $0 + $1.cost } + connection.transactions.values.reduce(0) { $0 + $1.bytes }
            }
            if bytes != state.heldBytes { faults.append("domain \(domain): \(state.heldBytes) bytes counted, \(bytes) held") }
        }
        return faults
    }

    private func checkWatches() -> [String] {
        var faults: [String] = []
        let registered = connections.values.reduce(0) { $0 + $1.watches.count }
        if registered != watches.count { faults.append("\(registered) watches registered, \(watches.count) indexed") }
        for (domain, state) in domains {
            let mine = connections.values.filter { $0.domain == domain }.reduce(0) { $0 + $1.watches.count }
            if mine != state.watches { faults.append("domain \(domain): \(state.watches) watches counted, \(mine) registered") }
        }
        return faults
    }
}
