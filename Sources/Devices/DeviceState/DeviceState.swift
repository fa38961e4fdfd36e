// What a device is, apart from what it does: attributes, which are taken while it is quiesced, and are exactly what is
// saved, handed to a successor and given back. The form is one for every kind of device and every transport, so that
// whoever moves a state about needs to understand none.

/// A device's attributes, in the order in which they are to be set.
public struct DeviceState: Equatable, Sendable {
    /// What the device is.
    public var kind: Kind
    /// Through what its driver reaches it.
    public var transport: Transport
    /// What there is to know.
    public var attributes: [Attribute]

    /// What a device is.
    public enum Kind: UInt16, Sendable, CustomStringConvertible {
        case block = 1
        case network = 2
        /// A few bytes and no queue.
        case flat = 3

        /// As users write it.
        public var description: String {
            switch self {
            case .block: "block"
            case .network: "network"
            case .flat: "flat"
            }
        }
    }

    /// Through what a driver reaches a device.
    public enum Transport: UInt16, Sendable, CustomStringConvertible {
        case xen = 1
        case vhostUser = 2

        /// As users write it.
        public var description: String {
            switch self {
            case .xen: "xen"
            case .vhostUser: "vhost-user"
            }
        }
    }

    /// A device with these attributes.
    public init(_ kind: Kind, over transport: Transport, _ attributes: [Attribute] = []) {
        self.kind = kind
        self.transport = transport
        self.attributes = attributes
    }
}

extension DeviceState {
    /// What an attribute is about.
    public enum Group: UInt16, Sendable {
        /// Which device it is.
        case identity = 0
        /// Its size and shape.
        case geometry = 1
        /// What was agreed with its driver.
        case agreement = 2
        /// One queue of it.
        case queue = 3
        /// What only an interface has.
        case network = 4
        /// The driver's memory.
        case memory = 5
        /// What has been counted.
        case counters = 6
    }

    /// One attribute.
    public struct Attribute: Equatable, Sendable {
        /// What it is about: a number, since a state may have groups that this version does not know.
        public var group: UInt16
        /// Which one of its group.
        public var number: UInt16
        /// Of a queue, or of a region: which.
        public var index: UInt32
        /// Whether a device without it would be another: who does not know it must refuse the state.
        public var isRequired: Bool
        /// Its value.
        public var bytes: [UInt8]

        /// An attribute that a successor has to understand.
        public init(_ group: Group, _ number: UInt16, index: UInt32 = 0, isRequired: Bool = true, _ bytes: [UInt8]) {
            self.group = group.rawValue
            self.number = number
            self.index = index
            self.isRequired = isRequired
            self.bytes = bytes
        }
    }
}
