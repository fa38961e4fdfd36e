// causeway_dma_…: memory that both sides use at the same time.

import CCausewayTranslation
import DMA
import Glibc

/// See causeway_translation.h.
@c @implementation
public func causeway_dma_allocate_coherent(
    _ dma: OpaquePointer?, _ byte_count: UInt64, _ memory: UnsafeMutablePointer<UnsafeMutableRawPointer?>?,
    _ address: UnsafeMutablePointer<UInt64>?, _ handle: UnsafeMutablePointer<UInt64>?
) -> Int32 {
    answering {
        let here = try object(dma, DMAObject.self)
        let (memory, address, handle) = (try Place(memory), try Place(address), try Place(handle))
        guard byte_count > 0, byte_count <= UInt64(UInt32.max) else { throw ErrorNumber(EINVAL) }
        let made = try here.device.allocateCoherent(Int(byte_count))
        here.coherent[made.number] = made
        memory.put(address: made.region.address)
        address.put(made.segment.address.rawValue)
        handle.put(made.number)
    }
}

/// See causeway_translation.h.
@c @implementation
public func causeway_dma_free_coherent(_ dma: OpaquePointer?, _ handle: UInt64) -> Int32 {
    answering {
        let here = try object(dma, DMAObject.self)
        guard let made = here.coherent[handle] else { throw ErrorNumber(ENOENT) }
        try here.device.freeCoherent(made)
        here.coherent[handle] = nil
    }
}
