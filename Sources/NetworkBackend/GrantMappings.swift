// The frontend's pages that stay mapped at its own request, so that a packet costs no call into the hypervisor
// (`XEN_NETIF_CTRL_TYPE_ADD_GREF_MAPPING`). One queue's; on its reactor's thread.

import DMA
import Hypervisor
import SharedMemory
import XenWire

/// A page that is mapped.
struct MappedPage {
    let grant: MappedGrant
    let isWritable: Bool
    /// The page's first byte on the queue's bus.
    let address: BusAddress
}

/// Mapped pages by reference.
final class GrantMappings {
    let limit: Int
    private let bus: MemoryBus
    private let hypervisor: any Hypervisor
    private let frontend: DomainID
    private var pages: [UInt32: MappedPage] = [:]
    /// Changes with every removal: who remembers a page must look it up again.
    private(set) var generation: UInt32 = 0

    init(limit: Int, bus: MemoryBus, hypervisor: any Hypervisor, frontend: DomainID) {
        self.limit = limit
        self.bus = bus
        self.hypervisor = hypervisor
        self.frontend = frontend
    }

    var count: Int { pages.count }

    @inline(__always)
    func page(_ reference: GrantReference) -> MappedPage? { pages.isEmpty ? nil : pages[reference.rawValue] }

    /// Maps what is listed; each entry by itself.
    func add(_ entries: [GrantMappingEntry]) -> [ControlStatus] {
        entries.map { entry in
            if pages[entry.reference.rawValue] != nil { return .invalidParameter }
            guard pages.count < limit else { return .bufferOverflow }
            do throws(HypervisorError) {
                let access: GrantAccess = entry.isReadOnly ? .readOnly : .readWrite
                for grant in try hypervisor.mapGrants([entry.reference], of: frontend, access: access) {
                    let window = bus.attach(grant.region)
                    pages[entry.reference.rawValue] = MappedPage(
                        grant: grant, isWritable: access == .readWrite,
                        address: window.advanced(by: UInt64(grant.offset)) ?? window)
                }
                return .success
            } catch { return .invalidParameter }
        }
    }

    /// Unmaps what is listed.
    func remove(_ entries: [GrantMappingEntry]) -> [ControlStatus] {
        var gone: [MappedGrant] = []
        let statuses = entries.map { entry -> ControlStatus in
            guard let page = pages.removeValue(forKey: entry.reference.rawValue) else { return .invalidParameter }
            gone.append(page.grant)
            return .success
        }
        release(gone)
        return statuses
    }

    func removeAll() {
        release(pages.values.map(\.grant))
        pages = [:]
    }

    private func release(_ grants: [MappedGrant]) {
        if grants.isEmpty { return }
        generation &+= 1
        for grant in grants { bus.detach(grant.region) }
        hypervisor.unmapGrants(grants)
    }
}
