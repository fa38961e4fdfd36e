// What the daemon answers, and what it says unasked.

import HypervisorRules
import XenTypes

/// One map's result within a batch.
struct MapResult: Hashable {
    var status: GrantStatus
    var handle: UInt32 = 0
    var run = RunID(0)
    var page: UInt32 = 0
}

/// A run whose descriptor comes with the message: the first time that this connection is to see it in this direction.
struct RunAnnouncement: Hashable {
    var run: RunID
    var pages: UInt32
    /// Where its pages are in the machine.
    var machine: MachineRun
}

/// Why the daemon did not do it.
enum Refusal: Hashable, CustomStringConvertible {
    case noSuchDomain(DomainID)
    case domainBusy(DomainID)
    case noSuchRun
    case port(EventPort, String)
    case limit(String, UInt32)
    case badCount(UInt32)
    case noSuchMapping
    case notWritable
    case virqTaken(UInt32)
    /// Not this connection's to ask for.
    case notAllowed
    case system(String)

    /// As its domain is told: what a failed request was about is known there.
    var description: String {
        switch self {
        case .noSuchDomain(let domain): "domain \(domain): no such domain"
        case .domainBusy(let domain): "domain \(domain): the number is taken"
        case .noSuchRun: "no such run"
        case .port(let port, let reason): "port \(port): \(reason)"
        case .limit(let what, let size): "\(what), of which there may be at most \(size)"
        case .badCount(let count): "a run of \(count) pages"
        case .noSuchMapping: "no such mapping"
        case .notWritable: "a byte of a page that may only be read"
        case .virqTaken(let number): "virtual interrupt \(number) is taken"
        case .notAllowed: "this connection may not ask for that"
        case .system(let text): text
        }
    }
}

enum Answer: Hashable {
    case done
    case refused(Refusal)
    /// With the notice socket.
    case welcome(DomainID)
    /// With the page's memory.
    case tableFrame(index: UInt32)
    /// With the run's memory.
    case run(NewRun)
    case retired(atOnce: Bool)
    /// With one descriptor for each announcement. May cover only the first part of the batch.
    case mapped([MapResult], [RunAnnouncement])
    case unmapped([GrantStatus])
    /// With the bell's read end, and for a bound port the peer's bell's write end.
    case port(PortID, EventPort)
    /// With a socket.
    case domain(DomainID)
    case domains([DomainID])
    case usage(HypervisorUsage)
    case storeUsage(LoopbackStoreUsage)
    case portStatus(PortStatus)
    /// May be the first part only.
    case described([DomainDescription])
}

/// What a client is told unasked, over its notice socket.
enum Notice: Hashable {
    /// A run that this connection was given is nobody's any more.
    case runGone(RunID)
    /// A run of this connection, given up while mapped, is now released.
    case runEnded(RunID)
    /// Somebody bound to this port; with their bell's write end.
    case portBound(PortID)
    case portUnbound(PortID)

    func encode() -> [UInt8] {
        var writer = MessageWriter()
        switch self {
        case .runGone(let run): writer.put(UInt16(1)); writer.put(run.rawValue)
        case .runEnded(let run): writer.put(UInt16(2)); writer.put(run.rawValue)
        case .portBound(let port): writer.put(UInt16(3)); writer.put(port.rawValue)
        case .portUnbound(let port): writer.put(UInt16(4)); writer.put(port.rawValue)
        }
        return writer.bytes
    }

    static func decode(_ bytes: [UInt8]) throws(MalformedMessage) -> Notice {
        var reader = MessageReader(bytes)
        let kind = try reader.take(UInt16.self)
        let number = try reader.take(UInt64.self)
        try reader.end()
        switch kind {
        case 1: return .runGone(RunID(number))
        case 2: return .runEnded(RunID(number))
        case 3: return .portBound(PortID(number))
        case 4: return .portUnbound(PortID(number))
        default: throw MalformedMessage()
        }
    }
}
