// Pages of this process's own, offered to a peer.

import Hypervisor
import HypervisorRules
import LinuxSystem
import SharedMemory
import XenTypes

/// Pages offered under one reference each, until they are retired.
package final class LinkedShare: Sendable {
    /// The pages, side by side, writable here.
    package let region: SharedRegion
    package let references: [GrantReference]
    let run: RunID
    /// The first page's number in this domain's own memory, the others after it: what a toolstack maps by.
    package let firstFrame: UInt32

    init(_ run: NewRun, _ region: SharedRegion, _ references: [GrantReference]) {
        self.run = run.id
        firstFrame = run.firstFrame
        self.region = region
        self.references = references
    }
}

extension LoopbackLink {
    /// Makes `count` zeroed pages and offers each to `peer`.
    /// - Parameter notice: what is to be done when they are retired, or this process ends: a byte of the first page
    ///   becomes 0, a port's peer is rung.
    package func share(
        _ count: Int, with peer: DomainID, access: GrantAccess, notice: (byte: UInt16?, port: EventPort?)? = nil
    ) throws(LinkFailure) -> LinkedShare {
        hear()
        guard count > 0, let pages = UInt32(exactly: count) else { throw LinkFailure(.invalidArgument, "\(count) pages") }
        let (run, descriptor): (NewRun, Descriptor) = try ask(.makeRun(pages: pages, peer: peer, access: access)) {
            answer, descriptors in
            guard case .run(let run) = answer, descriptors.count == 1 else { return nil }
            return (run, descriptors[0])
        }
        do throws(LinkFailure) {
            let region: SharedRegion
            do throws(Errno) {
                region = try SharedRegion(mapping: descriptor, byteCount: count * SharedRegion.pageSize, writable: true)
            } catch { throw LinkFailure(error, "mapping \(count) pages: \(error)") }
            // Before the seals, after which not even the daemon reaches the byte.
            if let notice { try done(.noticeRetire(run.id, page: 0, EndOrder(byte: notice.byte, port: notice.port))) }
            // Mapped: from now on nobody else can get a writable mapping of it, this process included.
            if access == .readOnly { try done(.armRun(run.id)) }
            return LinkedShare(run, region, try writeEntries(count, run, peer, access))
        } catch {
            if notice != nil { try? done(.noticeRetire(run.id, page: 0, EndOrder())) }
            retire(run.id, [])
            throw error
        }
    }

    private func writeEntries(
        _ count: Int, _ run: NewRun, _ peer: DomainID, _ access: GrantAccess
    ) throws(LinkFailure) -> [GrantReference] {
        while true {
            let references = state.withLock {
                $0.table.offer(count: count, firstFrame: run.firstFrame, to: peer, access: access)
            }
            if let references { return references }
            let (index, page): (Int, Descriptor) = try ask(.addTableFrame) { answer, descriptors in
                guard case .tableFrame(let index) = answer, descriptors.count == 1 else { return nil }
                return (Int(index), descriptors[0])
            }
            let region: SharedRegion
            do throws(Errno) {
                region = try SharedRegion(mapping: page, byteCount: SharedRegion.pageSize, writable: true)
            } catch { throw LinkFailure(error, "mapping a page of the grant table: \(error)") }
            state.withLock { $0.table.add(SharedGrantTableFrame(region), index: index) }
        }
    }

    /// Ends access. A page that the peer still has mapped is ended when it unmaps, and stays with it until then.
    package func retire(_ share: LinkedShare) { retire(share.run, share.references) }

    private func retire(_ run: RunID, _ references: [GrantReference]) {
        state.withLock { state in
            let left = references.filter { !state.table.end($0) }
            // Before the request: the notice may overtake its answer.
            state.deferred[run] = left
        }
        let atOnce: Bool? = try? ask(.retireRun(run)) { answer, _ in
            if case .retired(let atOnce) = answer { atOnce } else { nil }
        }
        if atOnce == true {
            state.withLock { state in
                for reference in state.deferred.removeValue(forKey: run) ?? [] { _ = state.table.end(reference) }
            }
        }
        hear()
    }
}
