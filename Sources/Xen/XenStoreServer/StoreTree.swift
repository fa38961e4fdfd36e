// All nodes by their path, and what each domain owns of them. A flat map, so that no depth can overflow a stack
// (attacks.md XS19).

import XenStore
import XenTypes

/// The committed state. Every change goes through `set`, which keeps the accounts, so that none can be forgotten
/// (attacks.md XS6, XS22).
struct StoreTree: Sendable {
    private(set) var nodes: [StorePath: StoreNode] = [:]
    private var accounts: [DomainID: (nodes: Int, bytes: Int)] = [:]
    /// The last generation given out.
    private(set) var generation: UInt64 = 0

    /// The tree that xenstored starts with: the root, `/tool`, `/tool/xenstored`, owned by domain 0 and closed to
    /// others.
    init() {
        let closed = StoreNode(permissions: [StorePermission(.none, .zero)])
        set(.root, closed, by: .zero)
        _ = create("/tool", closed)
        _ = create("/tool/xenstored", closed)
    }

    private mutating func create(_ text: String, _ node: StoreNode) -> Bool {
        guard let path = StorePath(text), let parent = path.parent, var above = nodes[parent] else { return false }
        above.addChild(path.name)
        set(parent, above, by: .zero)
        set(path, node, by: .zero)
        return true
    }

    subscript(path: StorePath) -> StoreNode? { nodes[path] }

    /// Stores or removes a node under a new generation.
    mutating func set(_ path: StorePath, _ node: StoreNode?, by writer: DomainID) {
        generation &+= 1
        var node = node
        node?.generation = generation
        node?.writer = writer
        let old = node.map { nodes.updateValue($0, forKey: path) } ?? nodes.removeValue(forKey: path)
        if let old { charge(old.owner, nodes: -1, bytes: -Self.cost(path, old)) }
        if let node { charge(node.owner, nodes: 1, bytes: Self.cost(path, node)) }
    }

    /// What a node costs its owner in bytes.
    static func cost(_ path: StorePath, _ node: StoreNode) -> Int { path.length + node.size }

    /// Nodes and bytes that `domain` owns.
    func account(_ domain: DomainID) -> (nodes: Int, bytes: Int) { accounts[domain] ?? (0, 0) }

    /// Owners of at least one node.
    var owners: [DomainID] { Array(accounts.keys) }

    private mutating func charge(_ domain: DomainID, nodes: Int, bytes: Int) {
        var account = self.account(domain)
        account.nodes += nodes
        account.bytes += bytes
        accounts[domain] = account.nodes == 0 ? nil : account
    }
}
