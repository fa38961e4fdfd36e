// The store as a driver sees it: values, errors, and one set of verbs for inside a transaction and outside.

import XenTypes

/// A store's refusal or a broken connection.
public enum StoreError: Error, Hashable, Sendable, CustomStringConvertible {
    /// The server's answer, by its wire name: `ENOENT`, `EACCES`, `EAGAIN`, `EQUOTA`…
    case refused(String, path: String)
    /// The connection is gone or the server broke the protocol.
    case disconnected(String)
    /// Not sent: the path or value is malformed or too large.
    case invalid(String, path: String)
    /// A transaction met a conflict in each of its bounded attempts.
    case conflict(attempts: Int)

    /// One clause, to stand behind what was being done.
    public var description: String {
        switch self {
        case .refused(let name, let path):
            (path.isEmpty ? "" : "\(path): ") + (StoreErrorName(rawValue: name).map { "\($0) (\(name))" } ?? name)
        case .disconnected(let why): "no connection to the store: \(why)"
        case .invalid(let why, let path): "\(path) is not valid: \(why)"
        case .conflict(let attempts): "somebody else changed the same nodes \(attempts) times in a row"
        }
    }
}

/// One permission entry: `n0`, `r5`, `w`, `b` (first entry: the owner and everyone else's default).
public struct StorePermission: Hashable, Sendable {
    /// What the domain may do.
    public enum Access: Character, Sendable { case none = "n", read = "r", write = "w", both = "b" }
    /// What the domain may do.
    public var access: Access
    /// Which domain.
    public var domain: DomainID
    /// One entry.
    public init(_ access: Access, _ domain: DomainID) { self.access = access; self.domain = domain }
}

/// A change that a watch reports.
public struct WatchEvent: Hashable, Sendable {
    /// The node that changed, as the watch's form (absolute or relative) has it.
    public var path: String
    /// The watch's own word, given when it was registered.
    public var token: String
    /// An event as the server sent it.
    public init(path: String, token: String) { self.path = path; self.token = token }
}

/// What can be done with the store, inside a transaction or outside: one set of verbs for both.
public protocol StoreAccess {
    /// The node's value.
    func read(_ path: String) throws(StoreError) -> String
    /// Sets the value; makes the node and what is missing above it.
    func write(_ path: String, _ value: String) throws(StoreError)
    /// Makes sure that the node exists.
    func makeDirectory(_ path: String) throws(StoreError)
    /// Removes the node with all below it; it need not exist, but its parent must.
    func remove(_ path: String) throws(StoreError)
    /// The names of a node's children, unsorted; a long list is fetched in parts.
    func directory(_ path: String) throws(StoreError) -> [String]
    /// The entries; the first names the owner.
    func permissions(_ path: String) throws(StoreError) -> [StorePermission]
    /// Replaces the entries.
    func setPermissions(_ path: String, _ permissions: [StorePermission]) throws(StoreError)
}

extension StoreAccess {
    /// The value, or nil where the node does not exist or may not be read.
    public func value(_ path: String) throws(StoreError) -> String? {
        do { return try read(path) } catch .refused(let name, _) where name == "ENOENT" || name == "EACCES" { return nil }
    }
    /// Whether the node exists (and may be read).
    public func exists(_ path: String) throws(StoreError) -> Bool {
        do { _ = try read(path); return true } catch .refused(let name, _) where name == "ENOENT" { return false }
    }
}
