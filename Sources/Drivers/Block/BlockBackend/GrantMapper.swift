// A queue's grants: mapped in batches, kept for the next request if the frontend agreed to that, given back before an
// answer is shown.

import DMA
import FrameMaps
import Hypervisor
import SharedMemory
import XenTypes

/// The grants of one queue of one connection.
struct GrantMapper {
    private(set) var persistent: PersistentGrants
    /// Whether grants stay mapped.
    let isPersistent: Bool
    let frontend: DomainID
    /// Not generic: it is called to map and unmap, a system call away at least, never for a request whose grants are
    /// mapped.
    let hypervisor: any Hypervisor
    let dma: DMADevice

    /// Mappings to give back before this turn's responses are shown.
    private var ended: [MappedGrant] = []
    /// Whether the last refusal to map may have been for want of room.
    private(set) var mayLackRoom = false
    /// What the last refusal to map said of a limit.
    private var lackOfRoom: String?
    /// The limit that kept a request's grants from being mapped.
    private(set) var shortage: String?
    /// Grants mapped so far, in batches or not.
    private(set) var mappedCount: UInt64 = 0
    /// Of these, those that are mapped for the disk alone.
    private(set) var passedCount: UInt64 = 0

    /// - Parameter persistentLimit: the most that stay mapped; nil: none does.
    init(hypervisor: any Hypervisor, frontend: DomainID, dma: DMADevice, persistentLimit: Int?) {
        persistent = PersistentGrants(limit: persistentLimit ?? 0)
        isPersistent = persistentLimit != nil
        self.frontend = frontend
        self.hypervisor = hypervisor
        self.dma = dma
    }

    /// Whether mappings wait for `unmapEnded`.
    var hasEnded: Bool { !ended.isEmpty }

    /// The holder of a page that is mapped and not in use, now in the caller's; nil: it has to be mapped.
    @inline(__always)
    mutating func acquire(_ reference: GrantReference) -> Int32? {
        if isPersistent, case .slot(let holder) = persistent.acquire(reference) { holder } else { nil }
    }

    @inline(__always)
    func place(_ holder: Int32) -> Pfn { persistent.page(holder) }

    func grant(_ holder: Int32) -> MappedGrant? { persistent.grant(holder) }

    /// Ends a use; the grant stays mapped.
    @inline(__always)
    mutating func release(_ holder: Int32) { persistent.release(holder) }

    /// Maps pages, all or none; each is to be held next. Persistent grants are mapped writable whatever `access` says:
    /// the next request may do the other (protocol-rules.md 16).
    /// - Parameter isLookedAt: whether they are read here, as descriptors are, and not by the disk.
    mutating func map(_ references: [GrantReference], _ access: GrantAccess, isLookedAt: Bool = false) -> [MappedGrant]? {
        do throws(HypervisorError) {
            let reach = reach(isLookedAt)
            let mapped = try hypervisor.mapGrants(
                references, of: frontend, access: isPersistent ? .readWrite : access, reach: reach)
            mappedCount &+= UInt64(mapped.count)
            if !reach.hasMemory { passedCount &+= UInt64(mapped.count) }
            return mapped
        } catch {
            note(error)
            return nil
        }
    }

    /// Who is to reach pages. What the disk reaches by machine frames only passes through, and this process need not
    /// see it; a page that is kept may hold descriptors the next time.
    private func reach(_ isLookedAt: Bool) -> GrantReach {
        if !dma.bus.takesMachineFrames { return .memory }
        if isPersistent { return .memoryAndDevice }
        return isLookedAt ? .memory : .device
    }

    /// Takes a mapped page into use: its place in our frame map, and its slot among the persistent grants, negative if
    /// it is not kept there and has to be given to `end`.
    mutating func hold(_ grant: MappedGrant) -> (place: Pfn, holder: Int32) {
        let place = attach(grant)
        guard isPersistent, let holder = persistent.insert(grant, at: place, evicted: &ended) else { return (place, -1) }
        return (place, holder)
    }

    /// Gives up what is only kept for the next request, where mapping failed for want of room or may have; false if
    /// there is nothing.
    mutating func makeRoom() -> Bool {
        guard mayLackRoom, persistent.count > 0 else { return false }
        let idle = persistent.removeIdle()
        for grant in idle { dma.detachIdle(grant.region) }
        if !idle.isEmpty { hypervisor.unmapGrants(idle) }
        return !idle.isEmpty
    }

    /// A request fails for want of room: said to the control thread, which says it once.
    mutating func reportShortage() { shortage = lackOfRoom ?? shortage }

    /// These are in nobody's use any more.
    mutating func end(_ grant: MappedGrant) { ended.append(grant) }

    /// Gives back what has ended.
    mutating func unmapEnded() {
        if ended.isEmpty { return }
        // Each was used by requests that have ended, and by no others: nothing that is in flight keeps it.
        for grant in ended { dma.detachIdle(grant.region) }
        hypervisor.unmapGrants(ended)
        ended.removeAll(keepingCapacity: true)
    }

    /// Gives every mapping back; nothing is in work any more.
    mutating func releaseEverything() {
        ended.append(contentsOf: persistent.removeAll())
        for grant in ended { dma.detach(grant.region) }
        // Of a disk that was given up something may still be under way: then what it reaches ends with its regions.
        let mayBeReached = dma.bus.takesMachineFrames && dma.bus.flightCount > 0
        if !ended.isEmpty && !mayBeReached { hypervisor.unmapGrants(ended) }
        ended.removeAll()
    }

    /// The page's place in our frame map. Where there is no room for it, a page that never translates: its request
    /// fails, and only that.
    private func attach(_ grant: MappedGrant) -> Pfn {
        dma.attach(grant.region, machine: grant.machine?(grant.region.pageCount))?.advanced(by: UInt64(grant.offset) >> frameShift)
            ?? Pfn(rawValue: .max)
    }

    /// Remembers whether a refusal was about room: `generalError` is all that a kernel says of Xen's own limit, and of
    /// much else.
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
}
