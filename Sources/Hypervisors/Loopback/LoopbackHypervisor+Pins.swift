// Batches of maps and unmaps, cut to what a message holds.

import Hypervisor
import HypervisorRules
import LinuxSystem
import SharedMemory
import XenTypes

extension LoopbackHypervisor {
    /// Maps all or nothing.
    func pin(
        _ references: [GrantReference], of granter: DomainID, access: GrantAccess
    ) throws(HypervisorError) -> [Pin] {
        var pins: [Pin] = []
        pins.reserveCapacity(references.count)
        var next = 0
        do throws(HypervisorError) {
            while next < references.count {
                let batch = Array(references[next..<min(next + Request.mostGrants, references.count)])
                let results = try pinBatch(batch, of: granter, access: access)
                next += results.count
                var refusal: HypervisorError?
                for (reference, result) in zip(batch, results) {
                    switch result {
                    case .success(let pin): pins.append(pin)
                    case .failure(let status): refusal = refusal ?? .grantRefused(reference, of: granter, status)
                    }
                }
                if let refusal { throw refusal }
            }
            return pins
        } catch {
            unpin(pins.map(\.unmapRequest))
            throw error
        }
    }

    /// Maps one message's worth, each by itself. The result may be shorter than the batch: the rest has to be asked
    /// again.
    func pinBatch(
        _ batch: [GrantReference], of granter: DomainID, access: GrantAccess
    ) throws(HypervisorError) -> [Result<Pin, GrantStatus>] {
        try connection.requests.ask(.map(granter: granter, access: access, batch)) { answer, descriptors in
            guard case .mapped(let results, let announcements) = answer, announcements.count == descriptors.count,
                !results.isEmpty, results.count <= batch.count
            else { return nil }
            for (item, descriptor) in zip(announcements, descriptors) {
                let view = RunView(run: item.run, access: access)
                guard connection.runs.add(view, descriptor, pages: Int(item.pages), machine: item.machine) else { return nil }
            }
            return zip(batch, results).map { reference, result in
                guard result.status == .okay else { return .failure(result.status) }
                return .success(
                    Pin(
                        handle: result.handle, reference: reference, granter: granter,
                        view: RunView(run: result.run, access: access), offset: Int(result.page) * SharedRegion.pageSize))
            }
        }
    }

    /// Unmaps; with the connection gone there is nothing to unmap.
    func unpin(_ items: [UnmapRequest]) {
        var rest = items[...]
        while !rest.isEmpty {
            let batch = Array(rest.prefix(Request.mostGrants))
            rest = rest.dropFirst(batch.count)
            let statuses: [GrantStatus]? = try? connection.requests.ask(.unmap(batch)) { answer, _ in
                if case .unmapped(let statuses) = answer { statuses } else { nil }
            }
            if statuses == nil { return }
        }
    }
}
