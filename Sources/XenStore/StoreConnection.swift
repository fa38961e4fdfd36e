// CONTRACT STUB, replaced by the real client.

import LinuxSystem
import XenWire

/// One connection to a store server: requests from any thread, watch events for whoever takes them.
public final class StoreClient: StoreAccess, Sendable {
    /// Connects to the server's Unix socket at `path`.
    public init(socketPath: String) throws(StoreError) { fatalError() }
    /// Talks over a descriptor already connected (a socket handed over, /dev/xen/xenbus).
    public init(descriptor: Descriptor) throws(StoreError) { fatalError() }

    public func read(_ path: String) throws(StoreError) -> String { fatalError() }
    public func write(_ path: String, _ value: String) throws(StoreError) { fatalError() }
    public func makeDirectory(_ path: String) throws(StoreError) { fatalError() }
    public func remove(_ path: String) throws(StoreError) { fatalError() }
    public func directory(_ path: String) throws(StoreError) -> [String] { fatalError() }
    public func permissions(_ path: String) throws(StoreError) -> [StorePermission] { fatalError() }
    public func setPermissions(_ path: String, _ permissions: [StorePermission]) throws(StoreError) { fatalError() }

    /// Runs `body` in a transaction and commits; on EAGAIN tries again, at most `attempts` times with a growing pause, then throws
    /// `.conflict`. An error from the body aborts the transaction and is rethrown.
    public func transaction<R>(
        attempts: Int = 16, _ body: (StoreTransaction) throws(StoreError) -> R
    ) throws(StoreError) -> R { fatalError() }

    /// Registers a watch; the server reports it once at once.
    public func watch(_ path: String, token: String) throws(StoreError) { fatalError() }
    public func unwatch(_ path: String, token: String) throws(StoreError) { fatalError() }
    /// The next event, at most one pending for each (path, token); nil after `milliseconds` (negative: for ever) or a `wake()`.
    /// Throws when the connection is gone.
    public func nextEvent(milliseconds: Int32) throws(StoreError) -> WatchEvent? { fatalError() }
    /// Makes a `nextEvent` in another thread return nil now.
    public func wake() { fatalError() }

    public func domainPath(_ domain: DomainID) throws(StoreError) -> String { fatalError() }
    public func isIntroduced(_ domain: DomainID) throws(StoreError) -> Bool { fatalError() }
    public func introduce(_ domain: DomainID, frame: UInt64, port: EventPort) throws(StoreError) { fatalError() }
    public func release(_ domain: DomainID) throws(StoreError) { fatalError() }
    public func resetWatches() throws(StoreError) { fatalError() }
    public func close() { fatalError() }
}

/// A transaction's view of the store.
public struct StoreTransaction: StoreAccess {
    public func read(_ path: String) throws(StoreError) -> String { fatalError() }
    public func write(_ path: String, _ value: String) throws(StoreError) { fatalError() }
    public func makeDirectory(_ path: String) throws(StoreError) { fatalError() }
    public func remove(_ path: String) throws(StoreError) { fatalError() }
    public func directory(_ path: String) throws(StoreError) -> [String] { fatalError() }
    public func permissions(_ path: String) throws(StoreError) -> [StorePermission] { fatalError() }
    public func setPermissions(_ path: String, _ permissions: [StorePermission]) throws(StoreError) { fatalError() }
}
