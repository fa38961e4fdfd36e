// The back ends whose device is a part of this process: frames by table (direct), frames by number (identity), the
// hypervisor's own numbers (vp), and any of these behind the software IOMMU. The device's side is `bus`.

import DMA
import FrameMaps
import LinuxSystem

/// A back end that a `DMADevice` serves.
public final class ModelBackEnd: DMABackEnd {
    /// What it is chosen by.
    public let name: String
    private let device: DMADevice
    private var mappings = MappingTable<DMAHandle>()
    private var segments: [BusSegment] = []
    private var seenFaults: UInt64 = 0

    /// - Parameter device: where mappings are made; used by nobody else.
    init(name: String, device: DMADevice) {
        self.name = name
        self.device = device
    }

    deinit { for record in mappings.all { end(record) } }

    /// The device's side: what finds memory for bus addresses.
    public var bus: MemoryBus { device.bus }
    /// What the driver's side has done.
    public var statistics: DMAStatistics { device.statistics }

    /// What it can map.
    public var limits: DMALimits {
        let sizes: UInt64 = device.iommu == nil ? 1 << 12 : 1 << 12 | 1 << 21 | 1 << 30
        return DMALimits(
            pageSizes: sizes, addresses: [0...device.options.constraints.mask], mappingsLeft: nil, lockableBytes: nil)
    }
    /// Mappings made and not unmapped.
    public var liveMappings: Int { mappings.count }
    /// Becomes readable when there is something for `takeFaults`.
    public var faultDescriptor: Descriptor? { nil }

    /// See `DMABackEnd`.
    public func map(_ memory: MemoryRun, _ direction: DMADirection) throws(DMABackEndError) -> BackEndMapping {
        guard let base = device.attach(memory.region) else { throw .noFrames(pages: memory.region.pageCount) }
        segments.removeAll(keepingCapacity: true)
        do throws(DMAError) {
            var pieces: [PagePiece] = []
            pieces.reserveCapacity(memory.pageCount)
            for index in memory.firstPage..<memory.firstPage + memory.pageCount {
                guard let pfn = base.advanced(by: UInt64(index)) else { throw .noSuchPage(base) }
                pieces.append(PagePiece(pfn: pfn, offset: 0, byteCount: UInt32(frameByteCount)))
            }
            let handle = try device.map(pieces.span, direction, into: &segments)
            return mappings.add(memory, segments, direction, handle)
        } catch {
            device.detach(memory.region)
            throw .dma(error)
        }
    }

    /// See `DMABackEnd`: the whole mapping.
    public func unmap(_ mapping: BackEndMapping) throws(DMABackEndError) {
        let record = try mappings.find(mapping)
        do throws(DMAError) { try device.unmap(record.detail, mapping.direction) } catch { throw .dma(error) }
        device.detach(record.memory.region)
        mappings.remove(mapping)
    }

    /// See `DMABackEnd`.
    public func sync(_ mapping: BackEndMapping, offset: UInt64, byteCount: UInt64, for side: DMASide) throws(DMABackEndError) {
        try mappings.check(mapping, offset, byteCount)
        let handle = try mappings.find(mapping).detail
        do throws(DMAError) {
            switch side {
            case .device: try device.syncForDevice(handle, offset: Int(offset), byteCount: Int(byteCount))
            case .processor: try device.syncForCPU(handle, offset: Int(offset), byteCount: Int(byteCount))
            }
        } catch { throw .dma(error) }
    }

    /// See `DMABackEnd`.
    public func flush() { device.iommu?.flush() }

    /// See `DMABackEnd`.
    public func takeFaults() -> DMAFaults {
        guard let log = device.iommu?.faults else { return DMAFaults() }
        var result = DMAFaults()
        let fresh = log.count - seenFaults
        // The log keeps the first of those that nobody has taken out; what was reported once is not reported again.
        let known = min(Int(seenFaults), log.recent.count)
        for fault in log.recent[known...].prefix(Int(fresh)) { result.add(DMAFault(fault)) }
        result.count = fresh
        seenFaults = log.count
        return result
    }

    private func end(_ record: MappingTable<DMAHandle>.Record) {
        try? device.unmap(record.detail, record.mapping.direction)
        device.detach(record.memory.region)
    }

    /// `direct: 3 mappings`.
    public var description: String { "\(name): \(liveMappings) mapping\(liveMappings == 1 ? "" : "s")" }
}
