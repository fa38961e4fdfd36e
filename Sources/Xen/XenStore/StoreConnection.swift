// The store's client: requests that wait for their answer, over one connection.

import LinuxSystem
import XenTypes

/// One connection to a store server: requests from any thread, watch events for whoever takes them.
public final class StoreClient: StoreAccess, Sendable {
    private let link: StoreLink
    /// The clock that its waits go by, and those of whoever uses it.
    public let time: any TimeSource

    /// Connects to the server's Unix socket at `path`.
    public convenience init(socketPath: String, time: some TimeSource) throws(StoreError) {
        do {
            try self.init(descriptor: StreamSocket.connect(path: socketPath), time: time)
        } catch let error as Errno {
            throw .disconnected("cannot connect to \(socketPath): \(error)")
        } catch let error as StoreError {
            throw error
        } catch {
            throw .disconnected("\(error)")
        }
    }

    /// Talks over a descriptor already connected (a socket handed over, /dev/xen/xenbus).
    public init(descriptor: Descriptor, time: some TimeSource) throws(StoreError) {
        self.time = time
        link = try StoreLink(StoreSocketLine(descriptor, time), time)
    }

    /// Talks over a line of the caller's.
    package init(line: some StoreLine, time: some TimeSource) throws(StoreError) {
        self.time = time
        link = try StoreLink(line, time)
    }

    deinit { link.close() }

    // MARK: Nodes

    /// See `StoreAccess.read`.
    public func read(_ path: String) throws(StoreError) -> String { try StoreVerbs(link, 0).read(path) }
    /// See `StoreAccess.write`.
    public func write(_ path: String, _ value: String) throws(StoreError) { try StoreVerbs(link, 0).write(path, value) }
    /// See `StoreAccess.makeDirectory`.
    public func makeDirectory(_ path: String) throws(StoreError) { try StoreVerbs(link, 0).makeDirectory(path) }
    /// See `StoreAccess.remove`.
    public func remove(_ path: String) throws(StoreError) { try StoreVerbs(link, 0).remove(path) }
    /// See `StoreAccess.directory`.
    public func directory(_ path: String) throws(StoreError) -> [String] { try StoreVerbs(link, 0).directory(path) }
    /// See `StoreAccess.permissions`.
    public func permissions(_ path: String) throws(StoreError) -> [StorePermission] { try StoreVerbs(link, 0).permissions(path) }
    /// See `StoreAccess.setPermissions`.
    public func setPermissions(_ path: String, _ permissions: [StorePermission]) throws(StoreError) {
        try StoreVerbs(link, 0).setPermissions(path, permissions)
    }

    // MARK: Transactions

    /// Runs `body` in a transaction and commits; on EAGAIN tries again, at most `attempts` times with a growing pause,
    /// then throws `.conflict`. An error from the body aborts the transaction and is rethrown.
    public func transaction<R>(
        attempts: Int = 16, _ body: (StoreTransaction) throws(StoreError) -> R
    ) throws(StoreError) -> R {
        for attempt in 0..<attempts {
            if attempt > 0 { time.sleep(milliseconds: Int64(min(50, 1 << min(attempt - 1, 6)))) }
            let transaction = try StoreTransaction(link)
            let result: R
            do {
                result = try body(transaction)
            } catch {
                try? transaction.end(commit: false)
                throw error
            }
            do {
                try transaction.end(commit: true)
                return result
            } catch .refused("EAGAIN", _) {
                continue
            }
        }
        throw .conflict(attempts: attempts)
    }

    // MARK: Watches

    /// Registers a watch; the server reports it once at once.
    public func watch(_ path: String, token: String) throws(StoreError) {
        try link.checkPath(path)
        link.expectEvents(of: path, token: token)
        do {
            _ = try link.ask(.watch, strings: [path, token], about: path)
        } catch .refused("EEXIST", let path) {
            throw .refused("EEXIST", path: path)
        } catch {
            link.forgetEvents(of: path, token: token)
            throw error
        }
    }

    /// Ends a watch; events of it that wait are dropped.
    public func unwatch(_ path: String, token: String) throws(StoreError) {
        _ = try link.ask(.unwatch, strings: [path, token], about: path)
        link.forgetEvents(of: path, token: token)
    }

    /// The next event, at most one pending for each (path, token); nil after `milliseconds` (negative: for ever) or a
    /// `wake()`. Throws when the connection is gone.
    public func nextEvent(milliseconds: Int32) throws(StoreError) -> WatchEvent? {
        try link.nextEvent(milliseconds: milliseconds)
    }

    /// Makes a `nextEvent` in another thread return nil now.
    public func wake() { link.wake() }

    /// Ends every watch and transaction of this connection.
    public func resetWatches() throws(StoreError) {
        _ = try link.ask(.resetWatches, strings: [""], about: "")
        link.forgetAllEvents()
    }

    // MARK: Domains

    /// The domain's home, `/local/domain/<domid>`.
    public func domainPath(_ domain: DomainID) throws(StoreError) -> String {
        try link.text(link.ask(.getDomainPath, strings: ["\(domain)"], about: "\(domain)"))
    }

    /// Whether the server knows the domain as ready (domain 0 only).
    public func isIntroduced(_ domain: DomainID) throws(StoreError) -> Bool {
        try link.text(link.ask(.isDomainIntroduced, strings: ["\(domain)"], about: "\(domain)")) == "T"
    }

    /// Tells the server that a domain is ready: its store ring's frame and port (domain 0 only).
    public func introduce(_ domain: DomainID, frame: UInt64, port: EventPort) throws(StoreError) {
        _ = try link.ask(.introduce, strings: ["\(domain)", "\(frame)", "\(port)"], about: "\(domain)")
    }

    /// Tells the server that a domain is gone (domain 0 only).
    public func release(_ domain: DomainID) throws(StoreError) {
        _ = try link.ask(.release, strings: ["\(domain)"], about: "\(domain)")
    }

    /// Ends the connection; whoever waits on it gets `.disconnected`.
    public func close() { link.close() }
}

/// A transaction's view of the store.
public struct StoreTransaction: StoreAccess {
    private let link: StoreLink
    private let id: UInt32
    private var verbs: StoreVerbs { StoreVerbs(link, id) }

    init(_ link: StoreLink) throws(StoreError) {
        let answer = try link.text(link.ask(.transactionStart, strings: [""], about: ""))
        guard let id = UInt32(answer), id != 0 else { throw link.fail("a transaction without a number") }
        self.link = link
        self.id = id
    }

    func end(commit: Bool) throws(StoreError) {
        _ = try link.ask(.transactionEnd, transaction: id, strings: [commit ? "T" : "F"], about: "")
    }

    /// See `StoreAccess.read`.
    public func read(_ path: String) throws(StoreError) -> String { try verbs.read(path) }
    /// See `StoreAccess.write`.
    public func write(_ path: String, _ value: String) throws(StoreError) { try verbs.write(path, value) }
    /// See `StoreAccess.makeDirectory`.
    public func makeDirectory(_ path: String) throws(StoreError) { try verbs.makeDirectory(path) }
    /// See `StoreAccess.remove`.
    public func remove(_ path: String) throws(StoreError) { try verbs.remove(path) }
    /// See `StoreAccess.directory`.
    public func directory(_ path: String) throws(StoreError) -> [String] { try verbs.directory(path) }
    /// See `StoreAccess.permissions`.
    public func permissions(_ path: String) throws(StoreError) -> [StorePermission] { try verbs.permissions(path) }
    /// See `StoreAccess.setPermissions`.
    public func setPermissions(_ path: String, _ permissions: [StorePermission]) throws(StoreError) {
        try verbs.setPermissions(path, permissions)
    }
}
