// What the core's callers name and are told.

import XenTypes

/// One process's connection of a domain. Never used twice.
public struct ConnectionID: Hashable, Sendable, CustomStringConvertible {
    /// The number.
    public let rawValue: UInt64
    /// Wraps a number.
    public init(_ rawValue: UInt64) { self.rawValue = rawValue }
    /// `connection 3`.
    public var description: String { "connection \(rawValue)" }
}

/// A run of memory made for one granter, one peer and one direction. Never used twice.
public struct RunID: Hashable, Sendable, CustomStringConvertible {
    /// The number.
    public let rawValue: UInt64
    /// Wraps a number.
    public init(_ rawValue: UInt64) { self.rawValue = rawValue }
    /// `run 7`.
    public var description: String { "run \(rawValue)" }
}

/// One life of a domain: its number may come back, this does not (a peer's old mappings are never taken for the new
/// domain's).
public struct DomainLife: Hashable, Sendable {
    let rawValue: UInt64
}

/// One life of a port. Never used twice, so that what is under way for a closed port does not reach its successor.
public struct PortID: Hashable, Sendable {
    /// The number.
    public let rawValue: UInt64
    /// Wraps a number.
    public init(_ rawValue: UInt64) { self.rawValue = rawValue }
}

/// Why an operation other than a grant's was refused. Nothing changed.
public enum CoreError: Error, Hashable, Sendable, CustomStringConvertible {
    case noSuchDomain(DomainID)
    /// The number is taken, or its last holder is still being cleared away.
    case domainBusy(DomainID)
    case noSuchConnection
    case noSuchRun(RunID)
    /// No mapping of the caller's own has this handle.
    case noSuchMapping
    /// A byte of a page that the caller may only read.
    case notWritable
    /// The domain has somebody who hears this virtual interrupt.
    case virqTaken(UInt32)
    /// `EINVAL`, `EPERM` or `ENOSPC`, as Xen has it.
    case port(EventPort, String)
    /// The domain's bound of `what` is reached.
    case limit(String, Int)
    /// A count of zero or above the bound.
    case badCount(Int)

    /// One clause, to stand behind what was asked for.
    public var description: String {
        switch self {
        case .noSuchDomain(let domain): "domain \(domain): no such domain"
        case .domainBusy(let domain): "domain \(domain): the number is taken"
        case .noSuchConnection: "no such connection"
        case .noSuchRun(let run): "no such \(run)"
        case .noSuchMapping: "no such mapping"
        case .notWritable: "a byte of a page that may only be read"
        case .virqTaken(let number): "virtual interrupt \(number) is taken"
        case .port(let port, let reason): "port \(port): \(reason)"
        case .limit(let what, let size): "\(what), of which there may be at most \(size)"
        case .badCount(let count): "a run of \(count) pages"
        }
    }
}

/// A grant mapped: where the memory is.
public struct Mapping: Hashable, Sendable {
    /// The maptrack handle.
    public let handle: UInt32
    /// The run that the page lies in.
    public let run: RunID
    /// The page's place in the run.
    public let page: Int
}

/// A run as it was made.
public struct NewRun: Hashable, Sendable {
    /// The run's number.
    public let id: RunID
    /// Its first page's number in the granter's pseudo-physical space.
    public let firstFrame: UInt32

    /// A run as the core made it.
    public init(id: RunID, firstFrame: UInt32) {
        self.id = id
        self.firstFrame = firstFrame
    }
}

/// A port as it was made, and for a bound one the port at the other end.
public struct NewPort: Hashable, Sendable {
    /// The port, host-wide.
    public let id: PortID
    /// The port's number in its domain.
    public let port: EventPort
    /// The other end, once bound.
    public let peer: PortID?
}

/// What the shell around the core has to do; in order.
public enum CoreEffect: Hashable, Sendable {
    /// The run's memory is nobody's any more. `deferred`: its owner gave it up earlier and waits to hear this.
    case runReleased(RunID, owner: ConnectionID, deferred: Bool)
    /// The port became pending and is not masked: ring its bell.
    case ring(PortID)
    /// The port is pending because something of its peer's ended, or because of a virtual interrupt: ring its bell.
    case rungAtEnd(PortID)
    /// The port's other end went away; it waits for that domain to bind again. It is pending too, which `ring` says.
    case peerClosed(PortID)
    /// The port is gone: drop its bell.
    case portClosed(PortID)
    /// The domain was destroyed: end the connection.
    case connectionEnded(ConnectionID)
    /// Everything that the connection held is released.
    case connectionReleased(ConnectionID)
}
