// All watches by the path they watch. Finding those that a change concerns costs a look-up for each watched length, not
// for each level of the path nor for each watch.

import XenStore

/// Names a connection of a `StoreCore`.
public struct StoreConnectionID: Hashable, Comparable, Sendable, CustomStringConvertible {
    let number: UInt64
    /// By age.
    public static func < (a: Self, b: Self) -> Bool { a.number < b.number }
    /// `connection 3`.
    public var description: String { "connection \(number)" }
}

/// A watch as its connection registered it.
struct StoreWatch: Hashable, Sendable {
    let path: StorePath
    let token: [UInt8]
    /// Whether the path was given relative, and events are to be so too.
    let isRelative: Bool
    /// A watch is known by its path and token.
    static func == (a: Self, b: Self) -> Bool { a.path == b.path && a.token == b.token }
    func hash(into hasher: inout Hasher) {
        hasher.combine(path)
        hasher.combine(token)
    }
    /// What it costs its domain, in bytes.
    var cost: Int { path.length + token.count }
}

/// The index from paths to watches.
struct WatchTable: Sendable {
    /// By path, then by connection, so that ten thousand connections on one path can each leave without a search.
    private(set) var byPath: [StorePath: [StoreConnectionID: [StoreWatch]]] = [:]
    private var pathsOfLength: [Int: Int] = [:]

    mutating func add(_ watch: StoreWatch, _ connection: StoreConnectionID) {
        if byPath[watch.path] == nil { pathsOfLength[watch.path.length, default: 0] += 1 }
        byPath[watch.path, default: [:]][connection, default: []].append(watch)
    }

    mutating func remove(_ watch: StoreWatch, _ connection: StoreConnectionID) {
        byPath[watch.path]?[connection]?.removeAll { $0 == watch }
        if byPath[watch.path]?[connection]?.isEmpty == true { removeAll(on: watch.path, connection) }
    }

    /// Removes every watch that the connection has on `path`.
    mutating func removeAll(on path: StorePath, _ connection: StoreConnectionID) {
        guard byPath[path]?.removeValue(forKey: connection) != nil, byPath[path]?.isEmpty == true else { return }
        byPath[path] = nil
        let left = (pathsOfLength[path.length] ?? 1) - 1
        pathsOfLength[path.length] = left == 0 ? nil : left
    }

    /// The watches that a change of `path` concerns: on the path itself and, unless `exact`, on any path above it.
    func matches(_ path: StorePath, exact: Bool) -> [StoreConnectionID: [StoreWatch]] {
        var found = byPath[path] ?? [:]
        guard !exact, !byPath.isEmpty else { return found }
        let lineage = path.lineage
        for level in 0..<max(0, lineage.count - 1) where pathsOfLength[lineage.length(level)] != nil {
            found.merge(byPath[lineage[level]] ?? [:]) { $0 + $1 }
        }
        return found
    }

    /// For the accounts: how many watches there are.
    var count: Int { byPath.values.reduce(0) { $0 + $1.values.reduce(0) { $0 + $1.count } } }
}
