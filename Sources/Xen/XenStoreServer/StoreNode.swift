// One node's content. A value: a transaction's copy of it is a few retains.

import XenStore
import XenTypes

/// A node: what it holds, who may do what, and when it last changed.
struct StoreNode: Hashable, Sendable {
    var value: [UInt8] = []
    /// Names in order of creation.
    private(set) var children: [String] = []
    /// The children's names and their NULs, in bytes.
    private(set) var childrenSize = 0
    /// Never empty: the first entry is the owner's and everyone else's default.
    var permissions: [StorePermission]
    /// Changes with every change of value, children or permissions; never used twice.
    var generation: UInt64 = 0
    /// Who made the last change: the one to slow down when a transaction fails for it.
    var writer = DomainID.zero

    init(permissions: [StorePermission]) { self.permissions = permissions }

    var owner: DomainID { permissions.first?.domain ?? .zero }

    /// The size that the quota is held against (the record of xenstored: 24 bytes, 8 for each permission, the rest as
    /// it is).
    var size: Int { 24 + 8 * permissions.count + value.count + childrenSize }

    mutating func addChild(_ name: String) {
        children.append(name)
        childrenSize += name.utf8.count + 1
    }

    mutating func removeChild(_ name: String) {
        guard let index = children.firstIndex(of: name) else { return }
        children.remove(at: index)
        childrenSize -= name.utf8.count + 1
    }
}
