// Grant copy: each operation maps what it needs for its own duration, so that it is validated by itself
// (attacks.md GT26) and pinned while the bytes move (attacks.md GT17).

import Hypervisor
import HypervisorRules
import SharedMemory
import XenTypes

extension InProcessHypervisor {
    /// See `Hypervisor.copyGrants`.
    public func copyGrants(_ operations: [GrantCopy]) throws(HypervisorError) -> [GrantStatus] {
        host.run { state in operations.map { copy($0, &state) } }
    }

    private func copy(_ operation: GrantCopy, _ state: inout HostState) -> GrantStatus {
        guard operation.hasValidRanges else { return .badCopyArgument }
        do throws(GrantStatus) {
            let source = try open(operation.source, .readOnly, &state)
            defer { unmap(source.pins, &state) }
            let destination = try open(operation.destination, .readWrite, &state)
            defer { unmap(destination.pins, &state) }
            let bytes = source.region.bytes(at: source.offset, count: operation.byteCount)
            destination.region.write(bytes, at: destination.offset)
            return .okay
        } catch { return error }
    }

    private func open(
        _ end: GrantCopy.End, _ access: GrantAccess, _ state: inout HostState
    ) throws(GrantStatus) -> (region: SharedRegion, offset: Int, pins: [MappedGrant]) {
        switch end {
        case .local(let region, let offset): return (region, offset, [])
        case .grant(let reference, let granter, let offset):
            let (grant, _) = try mapOne(reference, of: granter, access, &state)
            return (grant.region, grant.offset + offset, [grant])
        }
    }
}
