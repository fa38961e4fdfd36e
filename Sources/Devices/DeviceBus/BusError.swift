// What can be wrong with a use of the bus, in words that name the device.

/// Why a device does not do what a driver asks of it.
public struct BusRefusal: Error, Equatable, CustomStringConvertible {
    /// In words.
    public let description: String
    /// With these words.
    public init(_ description: String) { self.description = description }
}

/// Why a verb failed.
public enum BusError: Error, Equatable, CustomStringConvertible {
    /// No device of this name on this bus.
    case noSuchDevice(String, bus: String)
    /// A device of this name is there already.
    case nameTaken(String, bus: String)
    /// A name is 1 to 64 letters, digits, `-`, `_` and `.`.
    case badName(String)
    /// The device has other versions.
    case wrongVersion(UInt32, device: String, has: ClosedRange<UInt32>)
    /// This member has the device open already.
    case alreadyOpen(String)
    /// Another member has it open, and it serves one at a time.
    case inUse(String)
    /// The member has left the bus.
    case left(bus: String)
    /// The device has no share of this number.
    case noSuchShare(Int, device: String, shares: Int)
    /// Something was shared under this number before.
    case sharedTwice(Int, device: String)
    /// Nothing has been shared under this number.
    case notShared(Int, device: String)
    /// The memory does not have this place, or may not be written.
    case noSuchPlace(Int, device: String)
    /// An extent of a memory is empty, wraps, is longer than its region or overlaps another.
    case badExtent(address: UInt64, byteCount: UInt64)
    /// The connection is closed; why.
    case closed(String, reason: String)
    /// The device refuses; why.
    case refused(String, BusRefusal)

    /// In one line.
    public var description: String {
        switch self {
        case .noSuchDevice(let name, let bus): "bus \(bus): no device \(name)"
        case .nameTaken(let name, let bus): "bus \(bus): a device \(name) is there already"
        case .badName(let name): "\(name.prefix(80)): a device's name is 1 to 64 letters, digits, -, _ and ."
        case .wrongVersion(let version, let device, let has):
            "\(device): no version \(version); it has \(has.lowerBound == has.upperBound ? "\(has.lowerBound)" : "\(has.lowerBound) to \(has.upperBound)")"
        case .alreadyOpen(let device): "\(device): is open already"
        case .inUse(let device): "\(device): somebody else has it open"
        case .left(let bus): "bus \(bus): not a member any more"
        case .noSuchShare(let index, let device, let shares): "\(device): nothing to be shared as \(index); it has \(shares) shares"
        case .sharedTwice(let index, let device): "\(device): share \(index) is in use"
        case .notShared(let index, let device): "\(device): nothing is shared as \(index)"
        case .noSuchPlace(let index, let device): "\(device): share \(index) lies outside its memory"
        case .badExtent(let address, let byteCount): "\(byteCount) bytes at 0x\(String(address, radix: 16)) are no part of a memory"
        case .closed(let device, let reason): "\(device): the connection is closed: \(reason)"
        case .refused(let device, let refusal): "\(device): \(refusal)"
        }
    }
}
