// Setting and clearing bits in a word that a peer may be writing: one instruction, where a compare-exchange loop could
// be kept from ending.

import Synchronization

extension SharedRegion {
    /// Clears the bits that are zero in `mask`; returns the word as it was before.
    @discardableResult
    public func bitwiseAnd(_ offset: Int, _ mask: UInt32) -> UInt32 {
        unsafe atomic32(offset).pointee.bitwiseAnd(mask, ordering: .sequentiallyConsistent).oldValue
    }

    /// Sets the bits that are one in `mask`, after everything that was stored before; returns the word as it was.
    @discardableResult
    public func bitwiseOr(_ offset: Int, _ mask: UInt32) -> UInt32 {
        unsafe atomic32(offset).pointee.bitwiseOr(mask, ordering: .sequentiallyConsistent).oldValue
    }
}
