// Memory that the processor and a device use at the same time: rings, descriptors, status words. Never bounced; made
// below the device's mask, in one run on the bus, cleared before it is handed out.

import FrameMaps
import SharedMemory

/// What the device's record keeps of coherent memory.
struct CoherentPlace {
    var region: SharedRegion
    var frame: BusFrame
    /// Frames that it takes up: as many as it has pages, or as its alignment needs.
    var pages: Int
}

/// Coherent memory; to be freed once by `DMADevice.freeCoherent`.
public struct CoherentMemory: Sendable {
    /// The processor's side.
    public let region: SharedRegion
    /// The device's side: one segment.
    public let segment: BusSegment
    let handle: DMAHandle
}

extension DMADevice {
    /// Makes `byteCount` bytes (rounded up to pages) that the device finds in one segment, aligned as it needs. Throws
    /// `badCount` for no bytes, or more than a segment can have; `noMemory`.
    public func allocateCoherent(_ byteCount: Int) throws(DMAError) -> CoherentMemory {
        guard byteCount > 0, byteCount <= Int(UInt32.max) & ~(SharedRegion.pageSize - 1) else { throw .badCount(byteCount) }
        let bytes = SharedRegion.wholePages(byteCount)
        // One segment is what the device is promised.
        if bytes > Int(options.constraints.maximumSegmentSize) { throw .needsBounce(.segments) }
        guard let region = try? SharedRegion(anonymous: bytes) else { throw .noMemory(byteCount: bytes) }
        guard let frames else {
            // The direct map: a window of the bus.
            guard bus.hasRoom(for: region) else { throw .noMemory(byteCount: bytes) }
            let address = bus.attach(region)
            return try recorded(region, address, bytes, CoherentPlace(region: region, frame: BusFrame(rawValue: 0), pages: 0))
        }
        let mask = iommu == nil ? options.constraints.mask : .max
        // Behind an IOMMU its addresses are what is aligned.
        let pages = max(region.pageCount, options.constraints.alignmentPages)
        let framePages = iommu == nil ? pages : region.pageCount
        guard let frame = frames.addOwn(region, pages: framePages, mask: mask) else { throw .noMemory(byteCount: bytes) }
        do throws(DMAError) {
            let place = CoherentPlace(region: region, frame: frame, pages: framePages)
            guard let iommu else { return try recorded(region, BusAddress(frame, .zero), bytes, place) }
            let iova = try iommu.state.value.take(pages: pages)
            do throws(DMAError) {
                try iommu.state.value.linkReserved(iova, to: frame, pages: region.pageCount, .readWrite)
                return try recorded(region, BusAddress(rawValue: iova.rawValue), bytes, place, iova, pages)
            } catch {
                try? iommu.state.value.giveBack(iova, pages: pages)
                throw error
            }
        } catch {
            frames.removeOwn(frame, region, pages: framePages)
            throw error
        }
    }

    private func recorded(
        _ region: SharedRegion, _ address: BusAddress, _ byteCount: Int, _ place: CoherentPlace,
        _ iova: Iova = Iova(rawValue: 0), _ pages: Int = 0
    ) throws(DMAError) -> CoherentMemory {
        guard
            address.rawValue | options.constraints.boundaryMask
                == (address.rawValue + UInt64(byteCount) - 1) | options.constraints.boundaryMask
        else { throw .needsBounce(.segments) }
        let handle = hot.value.ledger.open(.coherent, .bidirectional, byteCount: UInt64(byteCount))
        hot.value.ledger.fill(handle) { record in
            record.iova = iova
            record.iovaPages = Int32(pages)
        }
        hot.value.coherent[handle.index] = place
        return CoherentMemory(
            region: region, segment: BusSegment(address: address, byteCount: UInt32(byteCount)), handle: handle)
    }

    /// Gives coherent memory back: the device reaches it no more.
    public func freeCoherent(_ memory: CoherentMemory) throws(DMAError) {
        let record = try hot.value.ledger.find(memory.handle, .coherent, nil)
        guard let place = hot.value.coherent[memory.handle.index], place.region === memory.region else {
            throw hot.value.ledger.misuse(.notMapped)
        }
        if let frames {
            if record.iovaPages > 0, let iommu {
                try iommu.state.value.giveBack(record.iova, pages: Int(record.iovaPages))
                // Its frames may be anybody's next: no window stays open onto them (attacks.md PM1, PM13).
                iommu.flush()
            }
            frames.removeOwn(place.frame, place.region, pages: place.pages)
            bus.retire(place.region)
        } else {
            bus.detach(place.region)
        }
        hot.value.coherent[memory.handle.index] = nil
        hot.value.ledger.close(memory.handle)
    }
}
