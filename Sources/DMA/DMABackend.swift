// Ways in which a device's addresses are made, behind one small protocol and chosen by name. For memory that is mapped once and
// used for long; the data path of a queue goes through `DMADevice`, which knows the first four at compile time.

import FrameMaps
import SharedMemory

/// What may still be mapped; nil: no limit.
public struct DMABudget: Hashable, Sendable, CustomStringConvertible {
    /// Mappings that there can still be.
    public var mappingsLeft: Int?
    /// Bytes that may still be locked in memory.
    public var lockedBytesLeft: Int?
    /// Bytes locked now. The same memory mapped twice counts twice, as the kernel counts it.
    public var lockedBytes = 0
    /// No limits unless given.
    public init(mappingsLeft: Int? = nil, lockedBytesLeft: Int? = nil, lockedBytes: Int = 0) {
        self.mappingsLeft = mappingsLeft
        self.lockedBytesLeft = lockedBytesLeft
        self.lockedBytes = lockedBytes
    }
    /// `4096 bytes locked, 61440 left; 65534 mappings left`.
    public var description: String {
        "\(lockedBytes) bytes locked, \(lockedBytesLeft.map { "\($0)" } ?? "any number") left; "
            + "\(mappingsLeft.map { "\($0)" } ?? "any number of") mappings left"
    }
}

/// Makes memory a device's, and takes it away again. Used by one thread.
public protocol DMABackend: AnyObject {
    /// What it is chosen by.
    var name: String { get }
    /// Makes pages of a region the device's. Whole or not at all; the segments are in the pages' order.
    func map(_ region: SharedRegion, pages: Range<Int>, _ direction: DMADirection) throws(DMAError) -> [BusSegment]
    /// Takes away what one `map` gave, all of it.
    func unmap(_ segments: [BusSegment]) throws(DMAError)
    /// What may still be mapped.
    var budget: DMABudget { get }
    /// Accesses refused since it was last asked.
    func takeFaults() -> [IOFault]
}

/// The back ends by name.
public enum DMABackends {
    /// `direct` is P2M; `vfio` and `iommufd` are the kernel's.
    public static let names = ["direct", "identity", "vp", "iommu", "vfio", "iommufd"]

    /// A back end for a device; throws if there is none of that name, or the kernel does not have it here.
    public static func make(
        _ name: String, device: String, constraints: DMAConstraints = DMAConstraints(), seed: UInt64 = 1
    ) throws(DMAError) -> any DMABackend {
        switch name {
        case "direct": return FrameBackend(name, device, DMAOptions(model: .p2m, constraints: constraints, seed: seed))
        case "identity": return FrameBackend(name, device, DMAOptions(model: .identity, constraints: constraints, seed: seed))
        case "vp": return FrameBackend(name, device, DMAOptions(model: .vp, constraints: constraints, seed: seed))
        case "iommu":
            return FrameBackend(name, device, DMAOptions(model: .vp, iommu: .strict, constraints: constraints, seed: seed))
        case "vfio": return try VfioBackend(device: device, control: try KernelFile("/dev/vfio/vfio"), constraints: constraints)
        case "iommufd": return try IommufdBackend(device: device, control: try KernelFile("/dev/iommu"), constraints: constraints)
        default: throw .noSuchBackend(name)
        }
    }
}

/// The back ends of this library, by way of a device of its own.
public final class FrameBackend: DMABackend {
    /// What it was chosen by.
    public let name: String
    /// The device whose bus the segments are on.
    public let device: DMADevice
    private var live: [BusAddress: (region: SharedRegion, handle: DMAHandle, direction: DMADirection)] = [:]

    init(_ name: String, _ device: String, _ options: DMAOptions) {
        self.name = name
        // A pool of no bytes is asked for: nothing of it can be missing.
        guard let made = DMADevice(name: device, options: options) else { preconditionFailure("a device without a pool") }
        self.device = made
    }

    /// Attaches the region and maps the pages; see the protocol.
    public func map(_ region: SharedRegion, pages: Range<Int>, _ direction: DMADirection) throws(DMAError) -> [BusSegment] {
        guard pages.lowerBound >= 0, pages.upperBound <= region.pageCount, !pages.isEmpty else {
            throw .outsideMapping(offset: pages.lowerBound << 12, byteCount: pages.count << 12, mapped: region.byteCount)
        }
        guard let first = device.attach(region) else { throw .noMemory(byteCount: region.byteCount) }
        var pieces: [PagePiece] = []
        for page in pages {
            guard let pfn = first.advanced(by: UInt64(page)) else { continue }
            pieces.append(PagePiece(pfn: pfn, offset: 0, byteCount: 4096))
        }
        var segments: [BusSegment] = []
        do throws(DMAError) {
            let handle = try device.map(pieces.span, direction, into: &segments)
            // Mapped twice without an IOMMU, memory has one address: the second time would hide the first.
            if live[segments[0].address] != nil {
                try device.unmap(handle, direction)
                throw .alreadyLinked(Iova(rawValue: segments[0].address.rawValue))
            }
            live[segments[0].address] = (region, handle, direction)
            return segments
        } catch {
            device.detach(region)
            throw error
        }
    }

    /// See the protocol.
    public func unmap(_ segments: [BusSegment]) throws(DMAError) {
        guard let first = segments.first, let mapping = live[first.address] else { throw .notMapped }
        try device.unmap(mapping.handle, mapping.direction)
        live[first.address] = nil
        device.detach(mapping.region)
    }

    /// Nothing is locked, and nothing is limited.
    public var budget: DMABudget { DMABudget() }

    /// The IOMMU's, if there is one.
    public func takeFaults() -> [IOFault] { device.iommu?.takeFaults() ?? [] }
}
