// The store as plainly as it can be said: a dictionary, linear searches, recursion. Slow, and obviously what the text
// says.

@testable import XenStore
import XenTypes

/// One request on nodes.
enum ModelRequest {
    case read(String), directory(String), permissions(String)
    case write(String, String), make(String), remove(String), set(String, [StorePermission])
}

/// A tree of nodes, what may be done with it, and which events follow.
struct StoreModel {
    struct Node: Equatable {
        var value = ""
        var children: [String] = []
        var permissions: [StorePermission]
    }
    struct Change { var path: String, exact: Bool, before: [StorePermission]? }

    var nodes: [String: Node]
    var nodeLimit = Int.max
    var changes: [Change] = []

    init() {
        let closed = [StorePermission(.none, .zero)]
        nodes = [
            "/": Node(children: ["tool"], permissions: closed), "/tool": Node(children: ["xenstored"], permissions: closed),
            "/tool/xenstored": Node(permissions: closed),
        ]
    }

    static func parent(_ path: String) -> String {
        let upTo = path.split(separator: "/").dropLast().joined(separator: "/")
        return "/" + upTo
    }
    static func name(_ path: String) -> String { String(path.split(separator: "/").last ?? "") }
    static func join(_ path: String, _ name: String) -> String { path == "/" ? "/" + name : path + "/" + name }

    static func mayRead(_ who: DomainID, _ permissions: [StorePermission]) -> Bool {
        who == .zero || permissions[0].domain == who
            || [.read, .both].contains((permissions.dropFirst().first { $0.domain == who } ?? permissions[0]).access)
    }
    static func mayWrite(_ who: DomainID, _ permissions: [StorePermission]) -> Bool {
        who == .zero || permissions[0].domain == who
            || [.write, .both].contains((permissions.dropFirst().first { $0.domain == who } ?? permissions[0]).access)
    }

    func owned(by domain: DomainID) -> Int { nodes.values.filter { $0.permissions[0].domain == domain }.count }

    private func above(_ path: String) -> String {
        let parent = Self.parent(path)
        return nodes[parent] != nil ? parent : above(parent)
    }

    /// The answer, with the changes made and noted in `changes`.
    mutating func perform(_ request: ModelRequest, by who: DomainID) -> Answer {
        switch request {
        case .read(let path): return reading(path, who) { .value($0.value) }
        case .directory(let path): return reading(path, who) { .okay(wireStrings($0.children)) }
        case .permissions(let path): return reading(path, who) { .okay(wireStrings($0.permissions.map(\.wire))) }
        case .write(let path, let value): return writing(path, who, value)
        case .make(let path): return writing(path, who, nil)
        case .remove(let path): return removing(path, who)
        case .set(let path, let permissions): return setting(path, who, permissions)
        }
    }

    private func reading(_ path: String, _ who: DomainID, _ answer: (Node) -> Answer) -> Answer {
        guard let node = nodes[path] else {
            return .error(Self.mayRead(who, nodes[above(path)]!.permissions) ? "ENOENT" : "EACCES")
        }
        return Self.mayRead(who, node.permissions) ? answer(node) : .error("EACCES")
    }

    private mutating func writing(_ path: String, _ who: DomainID, _ value: String?) -> Answer {
        let there = nodes[path] != nil
        guard Self.mayWrite(who, nodes[there ? path : above(path)]!.permissions) else { return .error("EACCES") }
        if there && value == nil { return .done }
        if !there {
            var missing = 0
            var at = path
            while nodes[at] == nil {
                missing += 1
                at = Self.parent(at)
            }
            if who != .zero && owned(by: who) + missing > nodeLimit { return .error("ENOSPC") }
            create(path, who)
        }
        nodes[path]!.value = value ?? ""
        changes.append(Change(path: path, exact: false, before: nil))
        return .done
    }

    private mutating func create(_ path: String, _ who: DomainID) {
        let parent = Self.parent(path)
        if nodes[parent] == nil { create(parent, who) }
        nodes[parent]!.children.append(Self.name(path))
        var permissions = nodes[parent]!.permissions
        if who != .zero { permissions[0].domain = who }
        nodes[path] = Node(permissions: permissions)
    }

    private mutating func removing(_ path: String, _ who: DomainID) -> Answer {
        guard let node = nodes[path] else {
            guard Self.mayWrite(who, nodes[above(path)]!.permissions) else { return .error("EACCES") }
            return nodes[Self.parent(path)] == nil ? .error("ENOENT") : .done
        }
        guard Self.mayWrite(who, node.permissions) else { return .error("EACCES") }
        if path == "/" { return .error("EINVAL") }
        nodes[Self.parent(path)]!.children.removeAll { $0 == Self.name(path) }
        drop(path, exact: false)
        return .done
    }

    private mutating func drop(_ path: String, exact: Bool) {
        guard let node = nodes.removeValue(forKey: path) else { return }
        changes.append(Change(path: path, exact: exact, before: node.permissions))
        for name in node.children { drop(Self.join(path, name), exact: true) }
    }

    private mutating func setting(_ path: String, _ who: DomainID, _ permissions: [StorePermission]) -> Answer {
        guard let node = nodes[path] else {
            let above = nodes[above(path)]!.permissions
            return .error(who == .zero || above[0].domain == who ? "ENOENT" : "EACCES")
        }
        guard who == .zero || node.permissions[0].domain == who else { return .error("EACCES") }
        if who != .zero && permissions[0].domain != who { return .error("EPERM") }
        nodes[path]!.permissions = permissions
        changes.append(Change(path: path, exact: false, before: node.permissions))
        return .done
    }

    /// A domain's end: its nodes with all below, and its entries elsewhere.
    mutating func die(_ domain: DomainID) {
        for path in nodes.keys.sorted() where path != "/" && nodes[path]?.permissions[0].domain == domain {
            nodes[Self.parent(path)]!.children.removeAll { $0 == Self.name(path) }
            drop(path, exact: false)
        }
        for path in nodes.keys {
            var permissions = nodes[path]!.permissions
            if permissions[0].domain == domain { permissions[0].domain = .zero }
            nodes[path]!.permissions = [permissions[0]] + permissions.dropFirst().filter { $0.domain != domain }
        }
    }

    /// The events that `changes` mean for a watcher, given the tree after them. Each change is judged by the tree at
    /// its own time in the store; with one request at a time, that is the tree after the request.
    func events(for who: DomainID, _ watches: [(path: String, token: String)]) -> Set<WatchEvent> {
        var events: Set<WatchEvent> = []
        for change in changes {
            let entries = [change.before, nodes[change.path]?.permissions, nodes[Self.parent(change.path)]?.permissions]
            guard entries.contains(where: { $0.map { Self.mayRead(who, $0) } ?? false }) else { continue }
            for watch in watches {
                let below = change.path.hasPrefix(watch.path == "/" ? "/" : watch.path + "/")
                if change.path == watch.path || (!change.exact && below) {
                    events.insert(WatchEvent(path: change.path, token: watch.token))
                }
            }
        }
        return events
    }
}
