// Offering, mapping and copying. The daemon rules; the pages themselves never pass through it.

import Hypervisor
import HypervisorRules
import LinuxSystem
import SharedMemory
import XenTypes

extension LoopbackHypervisor {
    // MARK: Offering

    /// See `Hypervisor.offerPages`.
    public func offerPages(
        _ count: Int, to peer: DomainID, access: GrantAccess
    ) throws(HypervisorError) -> any OfferedPages {
        guard count > 0, let pages = UInt32(exactly: count) else { throw .exhausted("a run of \(count) pages") }
        let (run, descriptor): (NewRun, Descriptor) = try connection.requests.ask(
            .makeRun(pages: pages, peer: peer, access: access)
        ) { answer, descriptors in
            guard case .run(let run) = answer, descriptors.count == 1 else { return nil }
            return (run, descriptors[0])
        }
        do throws(HypervisorError) {
            let region = try describing("mapping a run of \(count) pages") { () throws(Errno) in
                try SharedRegion(mapping: descriptor, byteCount: count * SharedRegion.pageSize, writable: true)
            }
            // Mapped: from now on nobody else can get a writable mapping of it, this process included.
            if access == .readOnly { try expectDone(.armRun(run.id)) }
            let references = try writeEntries(count, run, peer, access)
            return LoopbackOffer(connection, run: run.id, region: region, references: references)
        } catch {
            retire(connection, run.id, [])
            throw error
        }
    }

    private func writeEntries(
        _ count: Int, _ run: NewRun, _ peer: DomainID, _ access: GrantAccess
    ) throws(HypervisorError) -> [GrantReference] {
        while true {
            if let references = connection.table.withLock({
                $0.offer(count: count, firstFrame: run.firstFrame, to: peer, access: access)
            }) {
                return references
            }
            let (index, page): (Int, Descriptor) = try connection.requests.ask(.addTableFrame) { answer, descriptors in
                guard case .tableFrame(let index) = answer, descriptors.count == 1 else { return nil }
                return (Int(index), descriptors[0])
            }
            let region = try describing("mapping a page of the grant table") { () throws(Errno) in
                try SharedRegion(mapping: page, byteCount: SharedRegion.pageSize, writable: true)
            }
            connection.table.withLock { $0.add(SharedGrantTableFrame(region), index: index) }
        }
    }

    private func expectDone(_ request: Request) throws(HypervisorError) {
        try connection.requests.ask(request) { answer, _ in answer == .done ? () : nil }
    }

    // MARK: Mapping

    /// See `Hypervisor.mapGrants`.
    public func mapGrants(
        _ references: [GrantReference], of granter: DomainID, access: GrantAccess
    ) throws(HypervisorError) -> [MappedGrant] {
        let pins = try pin(references, of: granter, access: access)
        do throws(HypervisorError) {
            var grants: [MappedGrant] = []
            grants.reserveCapacity(pins.count)
            // Neighbours mostly lie in one run.
            var last: (view: RunView, region: SharedRegion, machine: MachineRun?)?
            for pin in pins {
                let region = if let last, last.view == pin.view { last.region } else { try region(of: pin) }
                guard pin.offset < region.byteCount else { throw .disconnected("the daemon named a page outside its run") }
                let machine = last?.view == pin.view ? last?.machine : connection.runs.machine(pin.view)
                last = (pin.view, region, machine)
                grants.append(
                    MappedGrant(
                        handle: pin.handle, region: region, offset: pin.offset, reference: pin.reference, granter: granter,
                        machine: machine?.finder))
            }
            return grants
        } catch {
            unpin(pins.map(\.unmapRequest))
            throw error
        }
    }

    /// See `Hypervisor.unmapGrants`.
    public func unmapGrants(_ grants: [MappedGrant]) {
        unpin(grants.map { UnmapRequest(handle: $0.handle, reference: $0.reference, granter: $0.granter) })
    }

    /// See `Hypervisor.mapContiguous`.
    public func mapContiguous(
        _ references: [GrantReference], of granter: DomainID, access: GrantAccess
    ) throws(HypervisorError) -> any ContiguousGrants {
        guard !references.isEmpty else { throw .exhausted("no references to map") }
        let pins = try pin(references, of: granter, access: access)
        do throws(HypervisorError) {
            var pages: [(descriptor: Descriptor, offset: Int)] = []
            for pin in pins {
                let size = try region(of: pin).byteCount
                guard let descriptor = connection.runs.descriptor(pin.view), pin.offset < size else {
                    throw .disconnected("the daemon named a page outside its run")
                }
                pages.append((descriptor, pin.offset))
            }
            let region = try describing("mapping \(pages.count) pages side by side") { () throws(Errno) in
                try SharedRegion(contiguous: pages, writable: access == .readWrite)
            }
            return LoopbackContiguous(self, region: region, pins: pins.map(\.unmapRequest))
        } catch {
            unpin(pins.map(\.unmapRequest))
            throw error
        }
    }

    func region(of pin: Pin) throws(HypervisorError) -> SharedRegion {
        let region = try describing("mapping a run") { () throws(Errno) in try connection.runs.region(pin.view) }
        guard let region else { throw .disconnected("the daemon named a run that it did not pass") }
        return region
    }
}

/// A grant mapped as far as the daemon is concerned.
struct Pin: Sendable {
    let handle: UInt32
    let reference: GrantReference
    let granter: DomainID
    let view: RunView
    /// The page's byte offset in its run.
    let offset: Int
    var unmapRequest: UnmapRequest { UnmapRequest(handle: handle, reference: reference, granter: granter) }
}
