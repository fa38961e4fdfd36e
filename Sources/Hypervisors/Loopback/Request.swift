// What a client asks of the daemon: one message, one answer.

import HypervisorRules
import XenTypes

/// What a domain's end depends on.
public enum DomainLifetime: UInt8, Sendable {
    /// It stays until it is destroyed.
    case untilDestroyed = 0
    /// It ends with the socket that was made with it: with the process that the socket was handed to.
    case withSocket = 1
}

/// Who a connection wants to be. What it may be is the daemon's to decide, by its socket.
enum Role: Hashable {
    /// What the socket stands for already: one that was handed over.
    case given
    /// A domain that exists.
    case domain(DomainID)
    /// The toolstack.
    case control
}

struct UnmapRequest: Hashable {
    var handle: UInt32
    var reference: GrantReference
    var granter: DomainID
}

enum Request: Hashable {
    case hello(Role)
    case addTableFrame
    case makeRun(pages: UInt32, peer: DomainID, access: GrantAccess)
    case armRun(RunID)
    case retireRun(RunID)
    case map(granter: DomainID, access: GrantAccess, [GrantReference])
    case unmap([UnmapRequest])
    case allocatePort(remote: DomainID)
    case bindPort(remote: DomainID, port: EventPort)
    case closePort(EventPort)
    /// What is to be done when a mapping of the caller's, or a run, ends: a byte of its page becomes 0, and a port's
    /// peer is rung. Neither: nothing any more.
    case noticeUnmap(handle: UInt32, EndOrder)
    case noticeRetire(RunID, page: UInt32, EndOrder)
    /// A port that the hypervisor rings.
    case bindVirtual(VirtualInterrupt)
    /// Frames of another domain's, without grants; for domain 0.
    case mapForeign(DomainID, access: GrantAccess, [UInt32])
    /// What a port of a domain is; of another's than one's own for domain 0.
    case portStatus(DomainID, EventPort)
    /// The domains from this number on, as a toolstack sees them; for domain 0.
    case describeDomains(from: DomainID)
    case connectStore
    case createDomain(DomainID?, user: UInt32?, DomainLifetime)
    case openDomain(DomainID)
    case destroyDomain(DomainID)
    case listDomains
    /// Of one domain, or of the whole host.
    case usage(DomainID?)
    /// Likewise, in the store.
    case storeUsage(DomainID?)

    /// Grants in one message; a longer batch is several messages.
    static let mostGrants = 1024
    static let noDomain: UInt16 = 0xFFFF
    static let noUser: UInt32 = 0xFFFF_FFFF
}

extension Request {
    /// The domain that a channel's request is about.
    var remote: DomainID {
        switch self {
        case .allocatePort(let remote), .bindPort(let remote, _): remote
        default: .zero
        }
    }

    /// The message, under a number that the answer repeats.
    func encode(sequence: UInt32) -> [UInt8] {
        var writer = MessageWriter()
        writer.put(operation)
        writer.put(sequence)
        switch self {
        case .hello(.given): writer.put(UInt8(0)); writer.put(Self.noDomain)
        case .hello(.domain(let domain)): writer.put(UInt8(1)); writer.put(domain.rawValue)
        case .hello(.control): writer.put(UInt8(2)); writer.put(Self.noDomain)
        case .addTableFrame, .connectStore, .listDomains: break
        case .makeRun(let pages, let peer, let access):
            writer.put(pages); writer.put(peer.rawValue); writer.put(access.rawValue)
        case .armRun(let run), .retireRun(let run): writer.put(run.rawValue)
        case .map(let granter, let access, let references):
            writer.put(granter.rawValue); writer.put(access.rawValue); writer.put(UInt32(references.count))
            for reference in references { writer.put(reference.rawValue) }
        case .unmap(let items):
            writer.put(UInt32(items.count))
            for item in items {
                writer.put(item.handle); writer.put(item.reference.rawValue); writer.put(item.granter.rawValue)
            }
        case .allocatePort(let remote): writer.put(remote.rawValue)
        case .bindPort(let remote, let port): writer.put(remote.rawValue); writer.put(port.rawValue)
        case .closePort(let port): writer.put(port.rawValue)
        case .createDomain(let domain, let user, let lifetime):
            writer.put(domain?.rawValue ?? Self.noDomain); writer.put(user ?? Self.noUser); writer.put(lifetime.rawValue)
        case .openDomain(let domain), .destroyDomain(let domain): writer.put(domain.rawValue)
        case .noticeUnmap(let handle, let order): writer.put(handle); order.encode(&writer)
        case .noticeRetire(let run, let page, let order):
            writer.put(run.rawValue); writer.put(page); order.encode(&writer)
        case .bindVirtual(let interrupt): writer.put(interrupt.rawValue)
        case .mapForeign(let domain, let access, let frames):
            writer.put(domain.rawValue); writer.put(access.rawValue); writer.put(UInt32(frames.count))
            for frame in frames { writer.put(frame) }
        case .portStatus(let domain, let port): writer.put(domain.rawValue); writer.put(port.rawValue)
        case .describeDomains(let first): writer.put(first.rawValue)
        case .usage(let domain), .storeUsage(let domain): writer.put(domain?.rawValue ?? Self.noDomain)
        }
        return writer.bytes
    }

    private var operation: UInt16 {
        switch self {
        case .hello: 1
        case .addTableFrame: 2
        case .makeRun: 3
        case .armRun: 4
        case .retireRun: 5
        case .map: 6
        case .unmap: 7
        case .allocatePort: 8
        case .bindPort: 9
        case .closePort: 10
        case .connectStore: 11
        case .createDomain: 12
        case .openDomain: 13
        case .destroyDomain: 14
        case .listDomains: 15
        case .usage: 16
        case .storeUsage: 17
        case .noticeUnmap: 18
        case .noticeRetire: 19
        case .bindVirtual: 20
        case .mapForeign: 21
        case .portStatus: 22
        case .describeDomains: 23
        }
    }

    /// Takes apart whatever a client sent.
    static func decode(_ bytes: [UInt8]) throws(MalformedMessage) -> (Request, sequence: UInt32) {
        var reader = MessageReader(bytes)
        let operation = try reader.take(UInt16.self)
        let sequence = try reader.take(UInt32.self)
        let request = try decode(operation, &reader)
        try reader.end()
        return (request, sequence)
    }

    private static func decode(_ operation: UInt16, _ reader: inout MessageReader) throws(MalformedMessage) -> Request {
        switch operation {
        case 1: return .hello(try role(&reader))
        case 2: return .addTableFrame
        case 3: return .makeRun(pages: try reader.take(), peer: try domain(&reader), access: try access(&reader))
        case 4: return .armRun(RunID(try reader.take()))
        case 5: return .retireRun(RunID(try reader.take()))
        case 6:
            let granter = try domain(&reader)
            let access = try access(&reader)
            let count = try reader.takeCount(of: 4, atMost: mostGrants)
            var references: [GrantReference] = []
            references.reserveCapacity(count)
            for _ in 0..<count { references.append(GrantReference(try reader.take())) }
            return .map(granter: granter, access: access, references)
        case 7:
            let count = try reader.takeCount(of: 10, atMost: mostGrants)
            var items: [UnmapRequest] = []
            items.reserveCapacity(count)
            for _ in 0..<count {
                items.append(
                    UnmapRequest(
                        handle: try reader.take(), reference: GrantReference(try reader.take()), granter: try domain(&reader)))
            }
            return .unmap(items)
        case 8: return .allocatePort(remote: try domain(&reader))
        case 9: return .bindPort(remote: try domain(&reader), port: EventPort(try reader.take()))
        case 10: return .closePort(EventPort(try reader.take()))
        case 11: return .connectStore
        case 12: return try createDomain(&reader)
        case 13: return .openDomain(try domain(&reader))
        case 14: return .destroyDomain(try domain(&reader))
        case 15: return .listDomains
        case 16:
            let number = try reader.take(UInt16.self)
            return .usage(number == noDomain ? nil : DomainID(number))
        case 17:
            let number = try reader.take(UInt16.self)
            return .storeUsage(number == noDomain ? nil : DomainID(number))
        default: return try decodeForeign(operation, &reader)
        }
    }

    /// What only programs of Xen's libraries ask for.
    private static func decodeForeign(_ operation: UInt16, _ reader: inout MessageReader) throws(MalformedMessage) -> Request {
        switch operation {
        case 18: return .noticeUnmap(handle: try reader.take(), try EndOrder.decode(&reader))
        case 19:
            return .noticeRetire(RunID(try reader.take()), page: try reader.take(), try EndOrder.decode(&reader))
        case 20: return .bindVirtual(VirtualInterrupt(try reader.take()))
        case 21:
            let owner = try domain(&reader)
            let access = try access(&reader)
            let count = try reader.takeCount(of: 4, atMost: mostGrants)
            var frames: [UInt32] = []
            frames.reserveCapacity(count)
            for _ in 0..<count { frames.append(try reader.take()) }
            return .mapForeign(owner, access: access, frames)
        case 22: return .portStatus(try domain(&reader), EventPort(try reader.take()))
        case 23: return .describeDomains(from: try domain(&reader))
        default: throw MalformedMessage()
        }
    }

    private static func role(_ reader: inout MessageReader) throws(MalformedMessage) -> Role {
        let kind = try reader.take(UInt8.self)
        let number = try reader.take(UInt16.self)
        switch kind {
        case 0: return .given
        case 1: return .domain(DomainID(number))
        case 2: return .control
        default: throw MalformedMessage()
        }
    }

    private static func createDomain(_ reader: inout MessageReader) throws(MalformedMessage) -> Request {
        let number = try reader.take(UInt16.self)
        let user = try reader.take(UInt32.self)
        guard let lifetime = DomainLifetime(rawValue: try reader.take()) else { throw MalformedMessage() }
        return .createDomain(number == noDomain ? nil : DomainID(number), user: user == noUser ? nil : user, lifetime)
    }

    private static func domain(_ reader: inout MessageReader) throws(MalformedMessage) -> DomainID {
        DomainID(try reader.take(UInt16.self))
    }

    private static func access(_ reader: inout MessageReader) throws(MalformedMessage) -> GrantAccess {
        guard let access = GrantAccess(rawValue: try reader.take()) else { throw MalformedMessage() }
        return access
    }
}
