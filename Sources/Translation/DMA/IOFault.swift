// Accesses that an IOMMU refused. A bounded record: a device that faults a million times a second costs a counter.

import FrameMaps

/// One refused access.
public struct IOFault: Hashable, Sendable, CustomStringConvertible {
    /// Why it was refused.
    public enum Cause: String, Sendable {
        case notMapped = "not mapped"
        case readDenied = "read denied"
        case writeDenied = "write denied"
        case noMemory = "no memory behind the frame"
        /// The kernel or the device said that there was one; no more is known.
        case reportedByDevice = "reported by the device"
    }
    /// Who tried.
    public var device: String
    /// Where; 0 if nobody knows.
    public var iova: Iova
    /// Why not.
    public var cause: Cause
    /// A refused access.
    public init(device: String, iova: Iova, cause: Cause) {
        self.device = device
        self.iova = iova
        self.cause = cause
    }
    /// `vbd-51712: iova 0x1000: not mapped`.
    public var description: String { "\(device): \(iova): \(cause.rawValue)" }
}

/// The first faults since it was last read, and how many there were in all.
public struct IOFaultLog: Sendable {
    /// Records kept until they are taken.
    public static let limit = 64
    /// The first ones.
    public private(set) var recent: [IOFault] = []
    /// All of them.
    public private(set) var count: UInt64 = 0

    mutating func record(_ fault: IOFault) {
        count &+= 1
        if recent.count < Self.limit { recent.append(fault) }
    }
    /// Hands the records out and makes room for new ones.
    public mutating func take() -> [IOFault] {
        defer { recent.removeAll(keepingCapacity: true) }
        return recent
    }
}
