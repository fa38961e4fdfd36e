// Mapping what a turn's requests need: in one batch, and one request at a time where the batch fails, so that a bad grant costs only
// the request that named it (attacks.md A5).

import DMA
import FrameMaps
import HostDevices
import Hypervisor
import LinuxSystem
import SharedMemory
import XenWire

extension QueueCore {
    /// Maps all that is wanted, then starts the requests that waited for it.
    mutating func mapAndStart() {
        if !deferred.isEmpty {
            waiting = deferred + waiting
            wanted = deferredPages + wanted
            deferred.removeAll()
            deferredPages.removeAll()
        }
        let requests = waiting
        waiting.removeAll(keepingCapacity: true)
        if map(wanted[...]) || makeRoom() && map(wanted[...]) {
            for slot in requests { begin(slot) }
        } else {
            var place = wanted.startIndex
            for slot in requests {
                let start = place
                while place < wanted.endIndex && wanted[place].slot == slot { place += 1 }
                if map(wanted[start..<place]) || makeRoom() && map(wanted[start..<place]) {
                    begin(slot)
                } else if mayLackRoom, willFree {
                    deferred.append(slot)
                    deferredPages.append(contentsOf: wanted[start..<place])
                } else {
                    reportShortage()
                    finish(slot, .error)
                }
            }
        }
        wanted.removeAll(keepingCapacity: true)
    }

    /// Whether grants will be given up without anybody's help: requests are at the disk, or have just ended.
    private var willFree: Bool {
        !unmapping.isEmpty
            || pending.contains { $0.stage == .main || $0.stage == .flushBefore || $0.stage == .flushAfter }
    }

    /// A request fails for want of room: said to the control thread, which says it once.
    private mutating func reportShortage() { shortage = lackOfRoom ?? shortage }

    /// Gives up what is only kept for the next request, where mapping failed for want of room or may have; false if there is nothing.
    private mutating func makeRoom() -> Bool {
        guard mayLackRoom, grants.count > 0 else { return false }
        let idle = grants.removeIdle()
        for grant in idle { dma.detachIdle(grant.region) }
        if !idle.isEmpty { hypervisor.unmapGrants(idle) }
        return !idle.isEmpty
    }

    /// Maps pages for the requests that want them; false, and nothing mapped, if one of them cannot be.
    private mutating func map(_ pages: ArraySlice<Wanted>) -> Bool {
        // Persistent grants are mapped writable whatever this request does: the next one may do the other (item 16).
        if usesPersistentGrants { return map(pages, .readWrite) }
        // A page that the disk only reads is mapped read-only, so that a grant of a read-only page will do.
        let writes = pages.filter { !isRead($0.slot) }
        let reads = pages.filter { isRead($0.slot) }
        return (writes.isEmpty || map(writes[...], .readOnly)) && (reads.isEmpty || map(reads[...], .readWrite))
    }

    /// Remembers whether a refusal was about room: `generalError` is all that a kernel says of Xen's own limit, and of much else.
    private mutating func note(_ error: HypervisorError) {
        switch error {
        case .exhausted(let what):
            mayLackRoom = true
            lackOfRoom = what
        case .grantRefused(_, _, .noDeviceSpace):
            mayLackRoom = true
            lackOfRoom =
                hypervisor.grantRoom().map { "the limit of mapped grants is \($0)" } ?? "the table of mapped grants is full"
        case .grantRefused(_, _, let status):
            mayLackRoom = status == .generalError
            lackOfRoom = nil
        default:
            mayLackRoom = false
            lackOfRoom = nil
        }
    }

    private func isRead(_ slot: Int32) -> Bool {
        if case .transfer(let transfer) = pending[Int(slot)].work { transfer.direction == .read } else { false }
    }

    private mutating func map(_ pages: ArraySlice<Wanted>, _ access: GrantAccess) -> Bool {
        let mapped: [MappedGrant]
        do throws(HypervisorError) {
            mapped = try hypervisor.mapGrants(pages.map(\.reference), of: frontend, access: access)
        } catch {
            note(error)
            return false
        }
        statistics.grantsMapped &+= UInt64(mapped.count)
        var evicted: [MappedGrant] = []
        for (page, grant) in zip(pages, mapped) {
            let address = attach(grant)
            let index = Int(page.slot) * stride + Int(page.page)
            self.pages[index] = address
            if usesPersistentGrants, let holder = grants.insert(grant, at: address, evicted: &evicted) {
                holders[index] = holder
            } else {
                transient[Int(page.slot)].append(grant)
            }
        }
        unmapping.append(contentsOf: evicted)
        return true
    }

    /// The page's place in our frame map. Where there is no room for it, a page that never translates: its request fails, and only that.
    private func attach(_ grant: MappedGrant) -> Pfn {
        dma.attach(grant.region, machine: grant.machine?(grant.region.pageCount))?.advanced(by: UInt64(grant.offset) >> frameShift) ?? Pfn(rawValue: .max)
    }

    /// Copies an indirect request's segments into private memory, once, and validates the copies; `validRanges` has them.
    mutating func readDescriptors(_ indirect: IndirectTransfer) throws(BlockRejection) -> BlockTransfer {
        indirectSegments.removeAll(keepingCapacity: true)
        for page in 0..<indirect.pageCount {
            let reference = indirect.reference(page)
            let count = indirect.segmentCount(onPage: page)
            if usesPersistentGrants, case .slot(let holder) = grants.acquire(reference) {
                if let grant = grants.grant(holder) {
                    IndirectPage.load(grant.region, at: grant.offset, count: count, appendingTo: &indirectSegments)
                }
                // The copy is ours now; the page may serve the next request.
                grants.release(holder)
            } else {
                try loadUnmapped(reference, count)
            }
        }
        return try validator.validate(indirect, segments: indirectSegments, into: &validRanges)
    }

    private mutating func loadUnmapped(_ reference: GrantReference, _ count: Int) throws(BlockRejection) {
        let access: GrantAccess = usesPersistentGrants ? .readWrite : .readOnly
        let mapped: [MappedGrant]
        do throws(HypervisorError) {
            do throws(HypervisorError) { mapped = try hypervisor.mapGrants([reference], of: frontend, access: access) } catch {
                note(error)
                guard makeRoom() else { throw error }
                mapped = try hypervisor.mapGrants([reference], of: frontend, access: access)
            }
        } catch {
            note(error)
            if mayLackRoom, willFree { throw .noRoom }
            reportShortage()
            throw .segmentCount(count, allowed: 0)
        }
        statistics.grantsMapped &+= 1
        for grant in mapped {
            IndirectPage.load(grant.region, at: grant.offset, count: count, appendingTo: &indirectSegments)
            let address = attach(grant)
            var evicted: [MappedGrant] = []
            if usesPersistentGrants, let holder = grants.insert(grant, at: address, evicted: &evicted) {
                grants.release(holder)
            } else {
                unmapping.append(grant)
            }
            unmapping.append(contentsOf: evicted)
        }
    }

    /// Gives every mapping back; nothing is in work any more.
    mutating func releaseEverything() {
        unmapping.append(contentsOf: grants.removeAll())
        for grant in unmapping { dma.detach(grant.region) }
        if !unmapping.isEmpty { hypervisor.unmapGrants(unmapping) }
        unmapping.removeAll()
    }
}

extension Errno {
    /// The device does not know the operation: EOPNOTSUPP, ENOSYS or ENOTTY.
    var isUnsupported: Bool { rawValue == 95 || rawValue == 38 || rawValue == 25 }
}
