// What real IOMMUs, and the software one that stands in for them, have in common beyond `DMABackEnd`: a mapping is one
// run of addresses, which the caller may choose, and which pages were written can be asked.

import DMA
import FrameMaps

/// A back end whose mappings are one run of addresses each.
public protocol PlacingBackEnd: DMABackEnd {
    /// As `map`, and at an address of the caller's choice if one is given.
    func map(_ memory: MemoryRun, _ direction: DMADirection, at wanted: Iova?) throws(DMABackEndError) -> BackEndMapping
    /// Starts to record writes; `unsupported` where they are not.
    func startDirtyTracking() throws(DMABackEndError)
    /// Ends it.
    func stopDirtyTracking() throws(DMABackEndError)
    /// For each of the mapping's pages whether a device may have written it since tracking began or this was last
    /// asked.
    func takeDirty(_ mapping: BackEndMapping) throws(DMABackEndError) -> [Bool]
}

extension VFIOContainer: PlacingBackEnd {}

extension IommufdSpace: PlacingBackEnd {
    /// Not here: iommufd records writes for page tables that are made for it, which a space of mappings has none of.
    public func startDirtyTracking() throws(DMABackEndError) { throw .unsupported("dirty page tracking for an iommufd space") }
    /// See `startDirtyTracking`.
    public func stopDirtyTracking() throws(DMABackEndError) { try startDirtyTracking() }
    /// See `startDirtyTracking`.
    public func takeDirty(_ mapping: BackEndMapping) throws(DMABackEndError) -> [Bool] {
        try startDirtyTracking()
        return []
    }
}
