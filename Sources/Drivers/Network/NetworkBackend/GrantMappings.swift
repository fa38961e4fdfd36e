// The frontend's pages that stay mapped at its own request, so that a packet costs no call into the hypervisor
// (`XEN_NETIF_CTRL_TYPE_ADD_GREF_MAPPING`). One queue's; on its reactor's thread.

import DMA
import FrameMaps
import Hypervisor
import LinuxSystem
import NetworkProtocol
import SharedMemory
import XenTypes

/// Pages to be mapped, or to be unmapped, as a page of the frontend's lists them.
struct MappingChange: Sendable {
    let list: GrantReference
    /// Entries, 1 to `GrantMappingEntry.perPage`.
    let count: Int
    let isAdded: Bool
    /// Whether it is to be told what is mapped then.
    let wantsEntries: Bool
}

/// Mapped pages by reference.
final class GrantMappings {
    let limit: Int
    private let dma: DMADevice
    private let hypervisor: any Hypervisor
    private let frontend: DomainID
    private var grants: [UInt32: MappedGrant] = [:]
    /// Looked at for every slot of every packet.
    private let index: OwnedState<GrantIndex>
    /// Changes with every removal: who remembers a page must look it up again.
    private(set) var generation: UInt32 = 0

    init(limit: Int, dma: DMADevice, hypervisor: any Hypervisor, frontend: DomainID, random: any RandomSource) {
        self.limit = limit
        index = OwnedState(GrantIndex(limit: limit, random: random))
        self.dma = dma
        self.hypervisor = hypervisor
        self.frontend = frontend
    }

    var count: Int { grants.count }

    /// The page in the queue's frame map; nil if it is not mapped, or not writable though it must be.
    @inline(__always)
    func page(_ reference: GrantReference, writable: Bool) -> Pfn? {
        index.value.page(reference.rawValue, writable: writable)
    }

    /// The page itself, for a tracer; nil if it is not mapped.
    func grant(_ reference: GrantReference) -> MappedGrant? { grants[reference.rawValue] }

    /// Maps what is listed; each entry by itself.
    func add(_ entries: [GrantMappingEntry]) -> [ControlStatus] {
        entries.map { entry in
            if grants[entry.reference.rawValue] != nil { return .invalidParameter }
            guard grants.count < limit else { return .bufferOverflow }
            do throws(HypervisorError) {
                let access: GrantAccess = entry.isReadOnly ? .readOnly : .readWrite
                for grant in try hypervisor.mapGrants([entry.reference], of: frontend, access: access) {
                    guard let page = attach(grant) else {
                        // No number, or no table memory, is left for it.
                        hypervisor.unmapGrants([grant])
                        return .bufferOverflow
                    }
                    grants[entry.reference.rawValue] = grant
                    index.value.insert(entry.reference.rawValue, page, isWritable: access == .readWrite)
                }
                return .success
            } catch { return .invalidParameter }
        }
    }

    /// Does what is asked for, and writes each entry's status into the list.
    func apply(_ change: MappingChange) -> ControlStatus {
        let list: [MappedGrant]
        do throws(HypervisorError) {
            list = try hypervisor.mapGrants([change.list], of: frontend, access: .readWrite)
        } catch { return .invalidParameter }
        defer { hypervisor.unmapGrants(list) }
        guard let page = list.first else { return .invalidParameter }
        let entries = (0..<change.count).map { GrantMappingEntry(word: page.region.load(page.offset + 8 * $0)) }
        let statuses = change.isAdded ? add(entries) : remove(entries)
        for (index, status) in statuses.enumerated() {
            page.region.store(UInt16(status.rawValue), at: page.offset + 8 * index + 6)
        }
        return statuses.allSatisfy { $0 == .success } ? .success : .invalidParameter
    }

    /// What is mapped, as it was asked for.
    var entries: [GrantMappingEntry] {
        grants.keys.map {
            GrantMappingEntry(reference: GrantReference($0), isReadOnly: index.value.page($0, writable: true) == nil)
        }
    }

    /// Maps what a predecessor had mapped: all of it, or nothing and false.
    func restore(_ entries: [GrantMappingEntry]) -> Bool {
        if add(entries).allSatisfy({ $0 == .success }) { return true }
        removeAll()
        return false
    }

    /// The page's place in our frame map.
    private func attach(_ grant: MappedGrant) -> Pfn? {
        dma.attach(grant.region, machine: grant.machine?(grant.region.pageCount))?.advanced(by: UInt64(grant.offset) >> frameShift)
    }

    /// Unmaps what is listed.
    func remove(_ entries: [GrantMappingEntry]) -> [ControlStatus] {
        var gone: [MappedGrant] = []
        let statuses = entries.map { entry -> ControlStatus in
            guard let grant = grants.removeValue(forKey: entry.reference.rawValue) else { return .invalidParameter }
            gone.append(grant)
            return .success
        }
        if !gone.isEmpty { reindex() }
        release(gone)
        return statuses
    }

    func removeAll() {
        let gone = Array(grants.values)
        grants = [:]
        index.value.removeAll()
        release(gone)
    }

    /// Removal is rare: the index is made anew.
    private func reindex() {
        let old = index.value
        index.value.removeAll()
        for reference in grants.keys {
            if let page = old.page(reference, writable: true) {
                index.value.insert(reference, page, isWritable: true)
            } else if let page = old.page(reference, writable: false) {
                index.value.insert(reference, page, isWritable: false)
            }
        }
    }

    private func release(_ grants: [MappedGrant]) {
        if grants.isEmpty { return }
        generation &+= 1
        for grant in grants { dma.detachIdle(grant.region) }
        hypervisor.unmapGrants(grants)
    }
}
