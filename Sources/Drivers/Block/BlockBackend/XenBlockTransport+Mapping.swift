// Mapping what a turn's requests need: in one batch, and one request at a time where the batch fails, so that a bad
// grant costs only the request that named it (attacks.md A5).

import BlockModel
import BlockProtocol
import Hypervisor
import XenTypes

/// A page that has to be mapped, for which request, and its place in the transport's `pages`.
struct WantedPage {
    var slot: RequestSlot
    var index: Int
    var reference: GrantReference
    /// Whether the disk writes it.
    var isRead: Bool
}

/// A request that waits until its part of `wanted` is mapped.
struct WaitingRequest {
    var slot: RequestSlot
    /// How many of `wanted`, which is in the same order, are its own.
    var pageCount: Int
}

/// A pass over those that wait.
struct MappingProgress {
    /// Whether one batch mapped everything.
    var isMapped: Bool
    /// The next request, and the first page that is its.
    var request = 0
    var page = 0
    /// Those that wait for room until others have given up their grants.
    var deferred: [WaitingRequest] = []
    var deferredPages: [WantedPage] = []
}

extension XenBlockTransport {
    mutating func nextWaiting(inFlight: Int) -> (slot: RequestSlot, isReachable: Bool)? {
        if waiting.isEmpty { return nil }
        var pass = progress ?? MappingProgress(isMapped: mapMakingRoom(wanted[...]))
        while pass.request < waiting.count {
            let request = waiting[pass.request]
            let own = wanted[pass.page..<pass.page + request.pageCount]
            pass.request += 1
            pass.page += request.pageCount
            if pass.isMapped || mapMakingRoom(own) {
                progress = pass
                return (request.slot, true)
            }
            if grants.mayLackRoom, willFree(inFlight) {
                pass.deferred.append(request)
                pass.deferredPages.append(contentsOf: own)
            } else {
                grants.reportShortage()
                progress = pass
                return (request.slot, false)
            }
        }
        endPass(pass)
        return nil
    }

    private mutating func endPass(_ pass: MappingProgress) {
        progress = nil
        isDeferring = !pass.deferred.isEmpty
        waiting.removeAll(keepingCapacity: true)
        wanted.removeAll(keepingCapacity: true)
        if isDeferring {
            waiting = pass.deferred
            wanted = pass.deferredPages
        }
    }

    /// Whether grants will be given up without anybody's help: requests are at the disk, or have just ended.
    private func willFree(_ inFlight: Int) -> Bool { grants.hasEnded || inFlight > 0 }

    /// Maps pages for the requests that want them; false if one of them cannot be.
    private mutating func mapMakingRoom(_ pages: ArraySlice<WantedPage>) -> Bool { map(pages) || grants.makeRoom() && map(pages) }

    private mutating func map(_ pages: ArraySlice<WantedPage>) -> Bool {
        if grants.isPersistent { return map(pages, .readWrite) }
        // A page that the disk only reads is mapped read-only, so that a grant of a read-only page will do.
        let writes = pages.filter { !$0.isRead }
        let reads = pages.filter(\.isRead)
        return (writes.isEmpty || map(writes[...], .readOnly)) && (reads.isEmpty || map(reads[...], .readWrite))
    }

    private mutating func map(_ wanted: ArraySlice<WantedPage>, _ access: GrantAccess) -> Bool {
        guard let mapped = grants.map(wanted.map(\.reference), access) else { return false }
        for (page, grant) in zip(wanted, mapped) {
            let (place, holder) = grants.hold(grant)
            pages[page.index].place = place
            pages[page.index].holder = holder
            if holder < 0 { requests[page.slot].transient.append(grant) }
        }
        return true
    }

    /// Copies an indirect request's segments into private memory, once, and validates the copies; `ranges` has them.
    mutating func readDescriptors(_ indirect: IndirectTransfer, _ inFlight: Int) throws(BlockRejection) -> BlockTransfer {
        indirectSegments.removeAll(keepingCapacity: true)
        for page in 0..<indirect.pageCount {
            let reference = indirect.reference(page)
            let count = indirect.segmentCount(onPage: page)
            if let holder = grants.acquire(reference) {
                if let grant = grants.grant(holder) { load(grant, count) }
                // The copy is ours now; the page may serve the next request.
                grants.release(holder)
            } else {
                let mapped = mapDescriptors(reference) ?? (grants.makeRoom() ? mapDescriptors(reference) : nil)
                guard let mapped else {
                    if grants.mayLackRoom, willFree(inFlight) { throw .noRoom }
                    grants.reportShortage()
                    throw .segmentCount(count, allowed: 0)
                }
                for grant in mapped {
                    load(grant, count)
                    // One that is not kept is nothing that the disk could reach.
                    let holder = grants.isPersistent ? grants.hold(grant).holder : -1
                    if holder < 0 { grants.end(grant) } else { grants.release(holder) }
                }
            }
        }
        return try validator.validate(indirect, segments: indirectSegments, into: &ranges)
    }

    private mutating func mapDescriptors(_ reference: GrantReference) -> [MappedGrant]? {
        grants.map([reference], .readOnly, isLookedAt: true)
    }

    private mutating func load(_ grant: MappedGrant, _ count: Int) {
        IndirectPage.load(grant.region, at: grant.offset, count: count, appendingTo: &indirectSegments)
    }
}
