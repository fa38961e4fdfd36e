// What a process asks to be done when a mapping or a run of its ends, by its own hand or by its death: a byte of the
// page is cleared and then a port is rung (UNMAP_NOTIFY_CLEAR_BYTE and UNMAP_NOTIFY_SEND_EVENT of gntdev and gntalloc).
// The other end of a vchan learns of a death by nothing else.

import XenTypes

/// One byte of a run's page, as the hypervisor reaches it.
public protocol EndByte: AnyObject {
    /// Stores a zero there, while the page still belongs to whoever has it.
    func clear()
}

/// What is to be done at the end.
struct EndNotice {
    /// Which byte becomes zero; nil: none.
    let byte: (any EndByte)?
    /// Whose peer is rung; nil: nobody's. Held beyond its closing: the peer that it had then is still to be rung.
    let port: PortState?
}

/// What a notice is about.
enum EndNoticeSubject: Hashable {
    case mapping(UInt32)
    case run(RunID)
}

extension HypervisorCore {
    /// Where a mapping of the connection's own leads, for whoever prepares a byte of it.
    public func mapping(_ handle: UInt32, by id: ConnectionID) throws(CoreError) -> (run: RunID, page: Int, isWriting: Bool) {
        let connection = try liveConnection(id)
        guard let tracked = connection.domain.maptrack.find(handle), tracked.connection == id else { throw .noSuchMapping }
        return (tracked.run, tracked.page, tracked.isWriting)
    }

    /// Whether the connection may still give orders about a run: it is its own, and not given up.
    public func ownRun(_ id: RunID, by connection: ConnectionID) throws(CoreError) -> (
        pages: Int, access: GrantAccess, isArmed: Bool
    ) {
        _ = try liveConnection(connection)
        guard let run = runs[id], run.owner == connection, !run.isRetired else { throw .noSuchRun(id) }
        return (run.pageCount, run.access, run.isArmed)
    }

    /// From now on the end of that mapping clears `byte`, if there is one, and rings the peer of `port`, if one is
    /// named; in place of what was asked for before. A byte wants a mapping that may write, and a port the connection's
    /// own (attacks.md GT34, GT35).
    public func noticeEnd(
        ofMapping handle: UInt32, byte: (any EndByte)?, port: EventPort?, by id: ConnectionID
    ) throws(CoreError) {
        let mapping = try mapping(handle, by: id)
        if byte != nil && !mapping.isWriting { throw .notWritable }
        try setNotice(.mapping(handle), byte, port, by: id)
    }

    /// The same for the end of a run of the connection's own.
    public func noticeEnd(ofRun run: RunID, byte: (any EndByte)?, port: EventPort?, by id: ConnectionID) throws(CoreError) {
        _ = try ownRun(run, by: id)
        try setNotice(.run(run), byte, port, by: id)
    }

    private func setNotice(
        _ subject: EndNoticeSubject, _ byte: (any EndByte)?, _ number: EventPort?, by id: ConnectionID
    ) throws(CoreError) {
        let connection = try liveConnection(id)
        var port: PortState?
        if let number { port = try ownPort(number, id) }
        connection.notices[subject] = byte == nil && port == nil ? nil : EndNotice(byte: byte, port: port)
    }

    /// Carries a notice out; once.
    func carryOut(_ subject: EndNoticeSubject, of connection: ConnectionState) {
        guard let notice = connection.notices.removeValue(forKey: subject) else { return }
        notice.byte?.clear()
        // A port that was closed since keeps its last link; the one at the other end may be gone as well.
        guard case .bound(let peer)? = notice.port?.link, ports[peer.id] === peer else { return }
        ringAtEnd(peer)
    }

    /// The port is rung whether or not it was pending: a daemon does not hear when its clients take what is pending.
    func ringAtEnd(_ port: PortState) {
        port.isPending = true
        emit(.rungAtEnd(port.id))
    }
}
