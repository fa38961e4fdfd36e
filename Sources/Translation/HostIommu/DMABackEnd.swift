// The one way to make memory reachable for a device, whatever stands between the two: nothing but a table of frames, a
// software IOMMU, or the machine's own IOMMU by way of the kernel. A driver that is written against this does not ask
// which.

import DMA
import FrameMaps
import LinuxSystem

/// Something that gives memory of this process addresses on a device's bus. Used by one thread.
///
/// A mapping lives from `map` until `unmap`, and keeps its memory mapped in this process for so long, also when
/// unmapping fails: memory that a device may still reach is never given back.
public protocol DMABackEnd: AnyObject, CustomStringConvertible {
    /// The name that it is chosen by.
    var name: String { get }
    /// What it can map.
    var limits: DMALimits { get }
    /// Mappings made and not unmapped.
    var liveMappings: Int { get }
    /// Becomes readable when there is something for `takeFaults`; nil if that must be asked for.
    var faultDescriptor: Descriptor? { get }

    /// Makes memory reachable for a device that moves data in `direction`. On an error nothing has changed.
    func map(_ memory: MemoryRun, _ direction: DMADirection) throws(DMABackEndError) -> BackEndMapping
    /// Ends it: the device reaches nothing of it any more (behind a software IOMMU in deferred mode: after `flush`).
    /// The mapping as a whole, once.
    func unmap(_ mapping: BackEndMapping) throws(DMABackEndError)
    /// Makes what the device has written visible here, or what was written here visible to the device. Memory that is
    /// not bounced needs nothing.
    func sync(_ mapping: BackEndMapping, offset: UInt64, byteCount: UInt64, for side: DMASide) throws(DMABackEndError)
    /// Returns when no device reaches what was unmapped before.
    func flush()
    /// Accesses that were refused, or that went wrong, since this was last asked: the first of them, and how many there
    /// were.
    func takeFaults() -> DMAFaults
}

/// For whom memory is synchronized.
public enum DMASide: Sendable {
    case device
    case processor
}

/// What a back end can map.
public struct DMALimits: Hashable, Sendable {
    /// Sizes of the pages that it maps with: a bit for each power of two. A run starts and ends at multiples of the
    /// smallest.
    public var pageSizes: UInt64
    /// Addresses that devices may be given, ascending.
    public var addresses: [ClosedRange<UInt64>]
    /// Mappings that can still be made; nil: as many as there is memory for.
    public var mappingsLeft: Int?
    /// Bytes that can still be locked; nil: no limit, or nothing is locked.
    public var lockableBytes: UInt64?

    /// The smallest page, in bytes.
    public var granule: UInt64 { pageSizes & (~pageSizes &+ 1) }
}

/// Faults, as events.
public struct DMAFaults: Hashable, Sendable {
    /// The first ones: at most 64.
    public var recent: [DMAFault] = []
    /// How many there were.
    public var count: UInt64 = 0

    mutating func add(_ fault: DMAFault, count more: UInt64 = 1) {
        count &+= more
        if recent.count < IOFaultLog.limit { recent.append(fault) }
    }
}

/// An access of a device that came to nothing.
public struct DMAFault: Hashable, Sendable, CustomStringConvertible {
    /// What is known of the cause.
    public enum Cause: String, Sendable {
        case notMapped = "not mapped"
        case readDenied = "read denied"
        case writeDenied = "write denied"
        case noMemory = "no memory behind the frame"
        /// The kernel says that the device has failed, not where.
        case deviceError = "device error"
    }
    /// Whose.
    public var device: String
    /// Where; nil if that is not told.
    public var iova: Iova?
    /// What is known of the cause.
    public var cause: Cause

    /// `vbd-51712: iova 0x1000: not mapped`.
    public var description: String { "\(device): \(iova.map { "\($0): " } ?? "")\(cause.rawValue)" }

    init(device: String, iova: Iova?, cause: Cause) {
        self.device = device
        self.iova = iova
        self.cause = cause
    }

    init(_ fault: IOFault) {
        self.init(device: fault.device, iova: fault.iova, cause: Cause(rawValue: fault.cause.rawValue) ?? .notMapped)
    }
}
