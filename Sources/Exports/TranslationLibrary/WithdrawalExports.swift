// causeway_registry_…: what was withdrawn.

import CCausewayTranslation
import Glibc
import HostIommu

/// See causeway_translation.h.
@c @implementation
public func causeway_registry_next_withdrawal(
    _ registry: OpaquePointer?, _ withdrawal: UnsafeMutablePointer<causeway_withdrawal>?
) -> Int32 {
    answering {
        let here = try object(registry, RegistryObject.self)
        let out = try Place(withdrawal)
        guard let oldest = try here.registry.nextWithdrawal() else { throw ErrorNumber(ENOENT) }
        out.put(
            causeway_withdrawal(
                address: oldest.address, byte_count: oldest.byteCount, start: oldest.start, length: oldest.length,
                cause: oldest.cause.rawValue, reserved: 0))
    }
}

/// See causeway_translation.h.
@c @implementation
public func causeway_registry_withdrawal_count(_ registry: OpaquePointer?) -> UInt64 {
    known(registry, RegistryObject.self)?.registry.withdrawalCount ?? 0
}
