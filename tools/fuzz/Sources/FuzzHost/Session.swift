// One input: a list of requests, each with the answer that it must get.

import FuzzSupport
import HypervisorRules
import LinuxSystem
@testable import Loopback
import SharedMemory
import XenTypes

struct Session {
    let loop: HostLoop
    var clients: [Client]
    var model = Model()

    init(_ loop: HostLoop) {
        self.loop = loop
        clients = [0, 0, 1, 1, 2].map { Client(loop, DomainID($0)) }
    }

    mutating func step(_ input: inout ByteReader) {
        let code = input.byte()
        let place = Int(input.byte()) % clients.count
        let client = clients[place]
        switch code % 16 {
        case 0, 1: share(client, &input)
        case 2: map(client, &input)
        case 3: mapForeign(client, &input)
        case 4: unmap(client, &input)
        case 5, 6: noticeUnmap(client, &input)
        case 7: noticeRetire(client, &input)
        case 8: retire(client, &input)
        case 9: allocate(client, &input)
        case 10: bind(client, &input)
        case 11: bindVirtual(client, &input)
        case 12: close(client, &input)
        case 13: ask(client, &input)
        case 14: end(place)
        default: code & 0x10 == 0 ? decode(&input) : destroy(client, &input)
        }
        compare()
    }

    /// One of a list by a byte; nil if it is empty.
    func pick(_ count: Int, _ input: inout ByteReader) -> Int? {
        let byte = Int(input.byte())
        return count == 0 ? nil : byte % count
    }

    /// Refusals that have nothing to do with what was asked: a bound is reached.
    func isFull(_ reply: Reply) -> Bool {
        if case .refused(.limit) = reply.answer { true } else { false }
    }

    // MARK: Pages

    private mutating func share(_ client: Client, _ input: inout ByteReader) {
        let code = input.byte()
        let (pages, peer) = (Int(code & 1) + 1, DomainID(UInt16(code >> 1) % 4))
        let access: GrantAccess = code & 8 == 0 ? .readWrite : .readOnly
        let reply = client.ask(.makeRun(pages: UInt32(pages), peer: peer, access: access))
        if isFull(reply) { return }
        guard case .run(let run) = reply.answer, let memory = reply.descriptors.first else {
            return require(false, "a run: \(reply.answer)")
        }
        let region = made { try SharedRegion(mapping: memory, byteCount: pages * 4096, writable: true) }
        region.fill(0, count: region.byteCount, with: 0xFF)
        var notice: Promise?
        if access == .readOnly {
            // Asked for before the seals, as it must be.
            if code & 16 != 0 {
                notice = Promise(offset: Int(code >> 5), port: nil)
                let order = EndOrder(byte: UInt16(code >> 5), port: nil)
                require(client.ask(.noticeRetire(run.id, page: 0, order)).answer == .done, "a notice before the seals")
            }
            require(client.ask(.armRun(run.id)).answer == .done, "sealing")
        }
        let references = client.table.offer(count: pages, firstFrame: run.firstFrame, to: peer, access: access) ?? []
        model.shares.append(
            Share(owner: client, run: run, region: region, references: references, peer: peer, access: access, notice: notice))
    }

    private mutating func map(_ client: Client, _ input: inout ByteReader) {
        guard let index = pick(model.shares.count, &input) else { return }
        let (share, code) = (model.shares[index], input.byte())
        let page = Int(code & 1) % share.region.pageCount
        let access: GrantAccess = code & 2 == 0 ? .readOnly : .readWrite
        guard share.isLive, page < share.references.count else { return }
        let allowed = share.peer == client.domain && (access == .readOnly || share.access == .readWrite)
        let reply = client.ask(.map(granter: share.owner.domain, access: access, [share.references[page]]))
        add(reply, to: index, page, access, client, share.references[page], allowed)
    }

    private mutating func mapForeign(_ client: Client, _ input: inout ByteReader) {
        guard let index = pick(model.shares.count, &input) else { return }
        let (share, code) = (model.shares[index], input.byte())
        let page = Int(code & 1) % share.region.pageCount
        let access: GrantAccess = code & 2 == 0 ? .readOnly : .readWrite
        let frame = share.run.firstFrame + UInt32(page)
        let allowed =
            client.domain == .zero && share.owner.domain != .zero && share.isLive
            && (access == .readOnly || share.access == .readWrite)
        let reply = client.ask(.mapForeign(share.owner.domain, access: access, [frame]))
        add(reply, to: index, page, access, client, GrantReference(frame), allowed)
    }

    private mutating func add(
        _ reply: Reply, to share: Int, _ page: Int, _ access: GrantAccess, _ client: Client, _ reference: GrantReference,
        _ allowed: Bool
    ) {
        guard case .mapped(let results, let runs) = reply.answer, results.count == 1, runs.count == reply.descriptors.count else {
            return require(false, "a mapping: \(reply.answer)")
        }
        if allowed, results[0].status == .noDeviceSpace { return }
        require((results[0].status == .okay) == allowed, "\(client.domain) maps: \(results[0].status), allowed: \(allowed)")
        guard allowed else { return require(reply.descriptors.isEmpty, "a descriptor with a refusal") }
        require(results[0].run == model.shares[share].run.id && results[0].page == page, "another page")
        model.held.append(
            Held(
                by: client, handle: results[0].handle, reference: reference, granter: model.shares[share].owner.domain,
                share: share, page: page, isWriting: access == .readWrite))
    }

    private mutating func unmap(_ client: Client, _ input: inout ByteReader) {
        guard let index = pick(model.held.count, &input) else { return }
        let held = model.held[index]
        let by = input.byte() & 7 == 0 ? client : held.by
        let reply = by.ask(.unmap([UnmapRequest(handle: held.handle, reference: held.reference, granter: held.granter)]))
        guard case .unmapped(let statuses) = reply.answer, statuses.count == 1 else { return require(false, "\(reply.answer)") }
        // Handles are a domain's own numbers: another's may be the same, of the same reference.
        let found = model.held.firstIndex {
            $0.by === by && $0.handle == held.handle && $0.reference == held.reference && $0.granter == held.granter
        }
        require((statuses[0] == .okay) == (found != nil), "an unmap: \(statuses[0])")
        if let found { model.unmap(found) }
    }

    private mutating func retire(_ client: Client, _ input: inout ByteReader) {
        guard let index = pick(model.shares.count, &input) else { return }
        let share = model.shares[index]
        let allowed = share.owner === client && share.isLive
        let isHeld = model.held.contains { $0.share == index }
        let reply = client.ask(.retireRun(share.run.id))
        if allowed {
            require(reply.answer == .retired(atOnce: !isHeld), "\(reply.answer), held: \(isHeld)")
            model.retire(index)
            for reference in share.references { _ = client.table.end(reference) }
        } else {
            require(reply.answer == .refused(.noSuchRun), "\(reply.answer)")
        }
    }
}
