// Pages for devices: a peer's and this domain's own, by the machine frames that Xen says. Only a PV domain can be told
// any; in one that is auto-translated the device goes by what the domain itself calls its frames.

import Glibc
import Hypervisor
import LinuxSystem
import SharedMemory
import XenTypes

extension LibxenHypervisor {
    /// Whether Xen tells this domain machine frames: it is PV, and this process was given a journal.
    public var reachesDevices: Bool { devices.isPossible && RunningDomain.isParavirtual }

    /// See `Hypervisor`. The frames are what Xen has pinned (`dev_bus_addr`), never what the peer's entry says: that it
    /// may rewrite while the page is mapped.
    public func mapGrants(
        _ references: [GrantReference], of granter: DomainID, access: GrantAccess, reach: GrantReach
    ) throws(HypervisorError) -> [MappedGrant] {
        guard reach.hasDevice else { return try mapGrants(references, of: granter, access: access) }
        let devices = try devices.get()
        let holds = references.map { _ in DeviceHold() }
        // This process's side first: then Xen pins for the device the frame that is mapped here.
        var regions: [SharedRegion] = []
        regions.reserveCapacity(references.count)
        for (reference, hold) in zip(references, holds) {
            regions.append(
                reach.hasMemory
                    ? try grants.map([reference], of: granter, access: access) { hold.end() }
                    : try NoPage.region(access) { hold.end() })
        }
        let mapped = try devices.map(references, of: granter, access: access)
        return zip(mapped, references).enumerated().map { index, item in
            let ((place, frame), reference) = item
            holds[index].hold(devices, place)
            return MappedGrant(
                handle: DeviceGrants.mark | UInt32(place.slot), region: regions[index], offset: 0, reference: reference,
                granter: granter, machine: { count in count == 1 ? [frame] : [] })
        }
    }

    /// See `Hypervisor`: gntalloc's pages, granted to this domain itself. The kernel keeps them for as long as Xen has
    /// them pinned, so that a device that nobody has stopped writes to nobody else's memory.
    public func deviceMemory(_ count: Int, for device: PCIAddress) throws(HypervisorError) -> DeviceMemory {
        let devices = try devices.get()
        try devices.note(device)
        let offer = try offers.get().share(count, with: domain, access: .readWrite)
        let mapped = try devices.map(offer.references, of: domain, access: .readWrite)
        let slots = mapped.map(\.place.slot)
        // SAFETY: the offer's pages, which the closure keeps until nobody has a reference to this region.
        let region = unsafe SharedRegion(adopting: offer.region.unsafeBase, byteCount: offer.region.byteCount, writable: true) {
            _, _ in
            devices.unmap(slots)
            withExtendedLifetime(offer) {}
        }
        return DeviceMemory(region: region, frames: mapped.map(\.frame))
    }

    /// What a predecessor left that a device may still reach; nil: nothing. Whoever asks stops the controllers, and
    /// then calls `endLeftDeviceGrants`, before any of them is driven again.
    public func leftDeviceGrants() throws(HypervisorError) -> LeftDeviceGrants? {
        devices.hasJournal ? try devices.get().left : nil
    }

    /// Ends what `leftDeviceGrants` told of; how many pages Xen did not know any more.
    public func endLeftDeviceGrants() throws(HypervisorError) -> Int { try devices.get().endLeft() }
}

/// Where this process has no byte of a page that only a device reaches.
///
/// SAFETY: one page's addresses, mapped for nobody, for as long as this process lives; a touch is a fault.
@safe private struct NoPage: @unchecked Sendable {
    let base: UnsafeMutableRawPointer

    static let shared: NoPage? = {
        let base = unsafe mmap(nil, SharedRegion.pageSize, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0)
        guard let base = unsafe base, unsafe base != MAP_FAILED else { return nil }
        return unsafe NoPage(base: base)
    }()

    /// A region of one page that is not here.
    static func region(_ access: GrantAccess, ending: @escaping @Sendable () -> Void) throws(HypervisorError) -> SharedRegion {
        guard let shared else { throw .system("\(Errno.current)", doing: "setting a page's addresses aside") }
        return unsafe SharedRegion(
            adopting: shared.base, byteCount: SharedRegion.pageSize, writable: access == .readWrite
        ) { _, _ in ending() }
    }
}
