// Which way a device moves data: as a value for the data path, and as a type, so that a sync for the wrong side does
// not compile.

/// Which way a device moves data.
public enum DMADirection: UInt8, Sendable, Equatable, CustomStringConvertible {
    /// The device reads memory: a disk write.
    case toDevice
    /// The device writes memory: a disk read. Needs a writable region.
    case fromDevice
    /// Both.
    case bidirectional

    /// Whether the device may write.
    @inlinable public var deviceWrites: Bool { self != .toDevice }
    /// Whether the device may read.
    @inlinable public var deviceReads: Bool { self != .fromDevice }
    /// `to device`, `from device` or `both ways`.
    public var description: String {
        switch self {
        case .toDevice: "to device"
        case .fromDevice: "from device"
        case .bidirectional: "both ways"
        }
    }
}

/// A direction as a type.
public protocol DMADirectionType {
    static var direction: DMADirection { get }
}
/// Directions in which the device reads what the processor wrote.
public protocol DeviceReads: DMADirectionType {}
/// Directions in which the processor reads what the device wrote.
public protocol DeviceWrites: DMADirectionType {}

/// The device reads.
public enum ToDevice: DeviceReads {
    /// To the device.
    public static var direction: DMADirection { .toDevice }
}
/// The device writes.
public enum FromDevice: DeviceWrites {
    /// From the device.
    public static var direction: DMADirection { .fromDevice }
}
/// Both.
public enum Bidirectional: DeviceReads, DeviceWrites {
    /// Both ways.
    public static var direction: DMADirection { .bidirectional }
}
