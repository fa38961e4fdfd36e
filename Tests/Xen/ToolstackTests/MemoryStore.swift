import XenStore

/// A store for tests of what is written: a dictionary, with parents made on the way as a real one makes them. Knows no
/// domains.
final class MemoryStore: StoreAccess {
    private(set) var values: [String: String] = ["/": ""]
    private(set) var permissionLists: [String: [StorePermission]] = [:]

    func read(_ path: String) throws(StoreError) -> String {
        guard let value = values[path] else { throw .refused("ENOENT", path: path) }
        return value
    }
    func write(_ path: String, _ value: String) throws(StoreError) {
        try makeDirectory(path)
        values[path] = value
    }
    func makeDirectory(_ path: String) throws(StoreError) {
        var node = path
        while values[node] == nil {
            values[node] = ""
            node = String(node[..<(node.lastIndex(of: "/") ?? node.startIndex)])
            if node.isEmpty { return }
        }
    }
    func remove(_ path: String) throws(StoreError) {
        guard values[path] != nil else { throw .refused("ENOENT", path: path) }
        values = values.filter { $0.key != path && !$0.key.hasPrefix(path + "/") }
        permissionLists = permissionLists.filter { values[$0.key] != nil }
    }
    func directory(_ path: String) throws(StoreError) -> [String] {
        guard values[path] != nil else { throw .refused("ENOENT", path: path) }
        return values.keys.compactMap { key in
            guard key.hasPrefix(path + "/"), !key.dropFirst(path.count + 1).contains("/") else { return nil }
            return String(key.dropFirst(path.count + 1))
        }
    }
    func permissions(_ path: String) throws(StoreError) -> [StorePermission] { permissionLists[path] ?? [] }
    func setPermissions(_ path: String, _ permissions: [StorePermission]) throws(StoreError) {
        _ = try read(path)
        permissionLists[path] = permissions
    }
}
