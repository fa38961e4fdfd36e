// What a session believes of the daemon: lists that are searched.

import HypervisorRules
import LinuxSystem
import SharedMemory
import XenTypes

/// What was asked to be done at an end.
struct Promise {
    var offset: Int?
    /// A port, by its place in the list.
    var port: Int?
}

struct Share {
    let owner: Client
    let run: NewRun
    let region: SharedRegion
    let references: [GrantReference]
    let peer: DomainID
    let access: GrantAccess
    var isRetired = false
    var notice: Promise?
    /// The bytes that were cleared.
    var cleared: Set<Int> = []

    var isLive: Bool { !isRetired && !owner.isOver }
}

struct Held {
    let by: Client
    let handle: UInt32
    let reference: GrantReference
    let granter: DomainID
    let share: Int
    let page: Int
    let isWriting: Bool
    var notice: Promise?
}

struct Port {
    let owner: Client
    let number: EventPort
    let bell: Descriptor
    var remote: DomainID?
    var virtual: UInt32?
    var link: Int?
    var isOpen = true
    var isRung = false
}

/// The daemon as it should be.
struct Model {
    var shares: [Share] = []
    var held: [Held] = []
    var ports: [Port] = []

    mutating func ring(_ port: Int?) {
        if let port, ports[port].isOpen { ports[port].isRung = true }
    }

    /// A notice carried out. A port that was closed since still names the peer that it had.
    mutating func carryOut(_ notice: Promise?, of share: Int) {
        guard let notice else { return }
        if let offset = notice.offset { shares[share].cleared.insert(offset) }
        if let port = notice.port { ring(ports[port].link) }
    }

    mutating func unmap(_ index: Int) {
        let ended = held.remove(at: index)
        carryOut(ended.notice, of: ended.share)
    }

    mutating func retire(_ index: Int) {
        carryOut(shares[index].notice, of: index)
        shares[index].notice = nil
        shares[index].isRetired = true
    }

    mutating func close(_ index: Int) {
        ports[index].isOpen = false
        guard let peer = ports[index].link, ports[peer].isOpen else { return }
        ports[peer].link = nil
        ports[peer].remote = ports[index].owner.domain
        ring(peer)
    }

    /// Notices first, then ports, then the rest.
    mutating func end(_ client: Client) {
        for index in held.indices where held[index].by === client {
            carryOut(held[index].notice, of: held[index].share)
            held[index].notice = nil
        }
        for index in shares.indices where shares[index].owner === client {
            carryOut(shares[index].notice, of: index)
            shares[index].notice = nil
        }
        for index in ports.indices where ports[index].owner === client && ports[index].isOpen { close(index) }
        held.removeAll { $0.by === client }
        for index in shares.indices where shares[index].owner === client { shares[index].isRetired = true }
    }

    /// The holder of a virtual interrupt.
    func holder(_ number: UInt32, in domain: DomainID) -> Int? {
        ports.firstIndex { $0.isOpen && $0.owner.domain == domain && $0.virtual == number }
    }
}
