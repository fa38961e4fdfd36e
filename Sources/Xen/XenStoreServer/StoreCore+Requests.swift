// From a message to its reply: who may ask what, and the form of each payload (docs/misc/xenstore.txt).

import XenStore
import XenTypes

extension StoreCore {
    /// Answers one message.
    mutating func handle(_ message: StoreMessage, from id: StoreConnectionID, now: UInt64) {
        guard let domain = connections[id]?.domain else { return }
        let requester = requester(id, domain)
        var answer = message
        do {
            answer.payload = try perform(message, requester, now: now)
            // A reply that no message can carry (attacks.md XS2).
            if answer.payload.count > StoreWire.payloadMax { throw StoreErrorName.E2BIG }
        } catch {
            answer.type = StoreMessageType.error.rawValue
            answer.payload = wireStrings([((error as? StoreErrorName) ?? .EIO).rawValue])
        }
        reply(answer, to: id)
        if answer.type == StoreMessageType.watch.rawValue { announceNewWatch(message.payload, requester) }
    }

    func requester(_ id: StoreConnectionID, _ domain: DomainID) -> Requester {
        Requester(connection: id, domain: domain, target: domains[domain]?.target)
    }

    private mutating func perform(
        _ message: StoreMessage, _ who: Requester, now: UInt64
    ) throws(StoreErrorName) -> [UInt8] {
        guard let type = StoreMessageType(rawValue: message.type), type != .watchEvent, type != .error else { throw .ENOSYS }
        if type.isPrivileged && !who.isPrivileged { throw .EACCES }
        let arguments = StoreArguments(message.payload)
        switch type {
        case .watch: return try watch(arguments, who)
        case .unwatch: return try unwatch(arguments, who)
        case .resetWatches:
            // The transaction, if one is named, is among those that go (attacks.md XS27).
            dropWatches(of: who.connection)
            dropTransactions(of: who.connection)
            return StoreCore.okay
        default: break
        }
        if type == .transactionEnd { return try endTransaction(message.transaction, arguments, who, now: now) }
        guard message.transaction != 0 else {
            var none: StoreOverlay?
            return try type.isOnNodes ? onNodes(type, arguments, who, &none) : onDomains(type, arguments, who)
        }
        guard connections[who.connection]?.transactions[message.transaction] != nil else { throw .ENOENT }
        if type == .transactionStart { throw .EBUSY }
        guard type.isOnNodes else { return try onDomains(type, arguments, who) }
        // The transaction is taken out while its request runs, and put back with what it has touched. Requests on nodes
        // in a transaction send no event, so nothing else can end this connection meanwhile.
        var taken = connections[who.connection]?.transactions.removeValue(forKey: message.transaction)
        domains[who.domain]?.heldBytes -= taken?.bytes ?? 0
        defer {
            domains[who.domain]?.heldBytes += taken?.bytes ?? 0
            connections[who.connection]?.transactions[message.transaction] = taken.take()
        }
        return try onNodes(type, arguments, who, &taken)
    }

    private mutating func onNodes(
        _ type: StoreMessageType, _ arguments: StoreArguments, _ who: Requester, _ overlay: inout StoreOverlay?
    ) throws(StoreErrorName) -> [UInt8] {
        switch type {
        case .directory: return try directory(arguments, who, &overlay)
        case .directoryPart: return try directoryPart(arguments, who, &overlay)
        case .read: return try read(arguments, who, &overlay)
        case .getPermissions: return try getPermissions(arguments, who, &overlay)
        case .write: return try write(arguments, who, &overlay)
        case .makeDirectory: return try makeDirectory(arguments, who, &overlay)
        case .remove: return try remove(arguments, who, &overlay)
        case .setPermissions: return try setPermissions(arguments, who, &overlay)
        default: throw .EINVAL
        }
    }

    private mutating func onDomains(
        _ type: StoreMessageType, _ arguments: StoreArguments, _ who: Requester
    ) throws(StoreErrorName) -> [UInt8] {
        switch type {
        case .transactionStart: return try startTransaction(who)
        case .getDomainPath: return try domainPath(arguments)
        case .introduce: return try introduce(arguments)
        case .release: return try release(arguments)
        case .resume: return try resume(arguments)
        case .setTarget: return try setTarget(arguments)
        case .isDomainIntroduced: return try isIntroduced(arguments)
        case .control: return try control(arguments)
        default: throw .EINVAL
        }
    }

    /// The reply where the protocol names none.
    static var okay: [UInt8] { wireStrings(["OK"]) }
}

extension StoreMessageType {
    /// Whether it reads or changes nodes, and so may take part in a transaction.
    var isOnNodes: Bool {
        switch self {
        case .directory, .directoryPart, .read, .getPermissions, .write, .makeDirectory, .remove, .setPermissions: true
        default: false
        }
    }

    /// Only for domain 0.
    var isPrivileged: Bool {
        switch self {
        case .control, .introduce, .release, .isDomainIntroduced, .resume, .setTarget: true
        default: false
        }
    }
}

/// A payload's strings. Each ends with a NUL; what follows the last NUL is data or an error, as the request has it.
struct StoreArguments {
    private let payload: [UInt8]

    init(_ payload: [UInt8]) { self.payload = payload }

    /// The only string: its NUL is the payload's last byte.
    func single() throws(StoreErrorName) -> ArraySlice<UInt8> {
        guard let end = payload.firstIndex(of: 0), end == payload.count - 1 else { throw .EINVAL }
        return payload[..<end]
    }

    /// The first `count` strings and whatever follows them.
    func strings(_ count: Int) throws(StoreErrorName) -> (strings: [ArraySlice<UInt8>], rest: ArraySlice<UInt8>) {
        var rest = payload[...]
        var strings: [ArraySlice<UInt8>] = []
        for _ in 0..<count {
            guard let end = rest.firstIndex(of: 0) else { throw .EINVAL }
            strings.append(rest[..<end])
            rest = rest[(end + 1)...]
        }
        return (strings, rest)
    }

    /// Every string; an unfinished one at the end is malformed.
    func all() throws(StoreErrorName) -> [ArraySlice<UInt8>] {
        guard payload.last == 0 else { throw .EINVAL }
        return payload.dropLast().split(separator: 0, omittingEmptySubsequences: false)
    }
}
