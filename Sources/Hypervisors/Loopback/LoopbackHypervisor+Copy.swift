// Grant copy: the daemon validates and pins each end by itself, as for a map, and the bytes move here, so that no CPU
// of the daemon's is spent on anybody's data.

import Hypervisor
import SharedMemory
import XenTypes

extension LoopbackHypervisor {
    /// See `Hypervisor.copyGrants`.
    public func copyGrants(_ operations: [GrantCopy]) throws(HypervisorError) -> [GrantStatus] {
        var statuses = operations.map { $0.hasValidRanges ? GrantStatus.okay : .badCopyArgument }
        // Pinned by direction and granter, one message each, whatever the number of operations.
        var pins: [PinnedEnd: Pin] = [:]
        defer { unpin(pins.values.map(\.unmapRequest)) }
        var wanted: [EndGroup: [PinnedEnd]] = [:]
        for (index, operation) in operations.enumerated() where statuses[index] == .okay {
            for (end, isSource) in [(operation.source, true), (operation.destination, false)] {
                guard case .grant(let reference, let granter, _) = end else { continue }
                let group = EndGroup(granter: granter, access: isSource ? .readOnly : .readWrite)
                wanted[group, default: []].append(PinnedEnd(operation: index, isSource: isSource, reference: reference))
            }
        }
        for (group, ends) in wanted {
            var rest = ends[...]
            while !rest.isEmpty {
                let batch = Array(rest.prefix(Request.mostGrants))
                let results = try pinBatch(batch.map(\.reference), of: group.granter, access: group.access)
                rest = rest.dropFirst(results.count)
                for (end, result) in zip(batch, results) {
                    switch result {
                    case .success(let pin): pins[end] = pin
                    case .failure(let status): statuses[end.operation] = status
                    }
                }
            }
        }
        for (index, operation) in operations.enumerated() where statuses[index] == .okay {
            statuses[index] = try copy(operation, index, pins)
        }
        return statuses
    }

    private func copy(_ operation: GrantCopy, _ index: Int, _ pins: [PinnedEnd: Pin]) throws(HypervisorError) -> GrantStatus {
        guard
            let source = try place(operation.source, index, true, pins),
            let destination = try place(operation.destination, index, false, pins)
        else { return .generalError }
        // Through private memory: the ends may overlap, and either may change meanwhile.
        destination.region.write(source.region.bytes(at: source.offset, count: operation.byteCount), at: destination.offset)
        return .okay
    }

    private func place(
        _ end: GrantCopy.End, _ index: Int, _ isSource: Bool, _ pins: [PinnedEnd: Pin]
    ) throws(HypervisorError) -> (region: SharedRegion, offset: Int)? {
        switch end {
        case .local(let region, let offset): return (region, offset)
        case .grant(let reference, _, let offset):
            guard let pin = pins[PinnedEnd(operation: index, isSource: isSource, reference: reference)] else { return nil }
            let region = try region(of: pin)
            guard pin.offset < region.byteCount else { return nil }
            return (region, pin.offset + offset)
        }
    }
}

private struct EndGroup: Hashable {
    var granter: DomainID
    var access: GrantAccess
}

private struct PinnedEnd: Hashable {
    var operation: Int
    var isSource: Bool
    var reference: GrantReference
}
