// Attributes in words: a name that a person can ask for, and a value that he can read.

import DeviceState

/// An attribute as a person sees it: `geometry.bytes` is `16777216`.
public struct DeviceProperty: Equatable, Sendable {
    /// Its group, its index if there are several, and what it is: `queue.0.slots`.
    public let name: String
    /// Its value.
    public let value: String

    /// As given; the name without its group.
    public init(_ group: DeviceState.Group, index: UInt32? = nil, _ name: String, _ value: String) {
        self.name = "\(group)." + (index.map { "\($0)." } ?? "") + name
        self.value = value
    }
}

/// The attributes that devices have whatever their transport is, and those of Xen's. What a vhost-user session has
/// beside them is named where its messages are.
public enum DevicePropertyKey: CaseIterable, Sendable {
    case model, bytes, sectorBytes, physicalSectorBytes, isReadOnly, discardGranularity, discardAlignment, discardsSecurely
    case mtu, mac
    case dialect
    case slots, nextRequest, nextResponse, inFlight, fault
    case counter

    private enum Form {
        case number
        case flag
        case text
        /// A number and its name.
        case named
    }

    /// Numbers from 256 on are Xen's: below are a vhost-user session's messages.
    private var entry: (group: DeviceState.Group, number: UInt16, name: String, form: Form) {
        switch self {
        case .model: (.identity, 0, "model", .text)
        case .bytes: (.geometry, 0, "bytes", .number)
        case .sectorBytes: (.geometry, 1, "sector-bytes", .number)
        case .physicalSectorBytes: (.geometry, 2, "physical-sector-bytes", .number)
        case .isReadOnly: (.geometry, 3, "read-only", .flag)
        case .discardGranularity: (.geometry, 4, "discard-granularity-bytes", .number)
        case .discardAlignment: (.geometry, 5, "discard-alignment-bytes", .number)
        case .discardsSecurely: (.geometry, 6, "secure-discard", .flag)
        case .mtu: (.geometry, 16, "mtu-bytes", .number)
        case .mac: (.geometry, 17, "mac", .text)
        case .dialect: (.agreement, 256, "protocol", .text)
        case .slots: (.queue, 256, "slots", .number)
        case .nextRequest: (.queue, 257, "next-request", .number)
        case .nextResponse: (.queue, 258, "next-response", .number)
        case .inFlight: (.queue, 259, "in-flight", .number)
        case .fault: (.queue, 260, "fault", .text)
        case .counter: (.counters, 0, "", .named)
        }
    }

    /// What an attribute says; nil: it is none of these, or not as long as it should be.
    public static func property(of attribute: DeviceState.Attribute) -> DeviceProperty? {
        guard let key = allCases.first(where: { $0.entry.group.rawValue == attribute.group && $0.entry.number == attribute.number })
        else { return nil }
        let entry = key.entry
        let index = entry.group == .queue ? attribute.index : nil
        switch entry.form {
        case .text: return DeviceProperty(entry.group, index: index, entry.name, String(decoding: attribute.bytes, as: UTF8.self))
        case .number:
            return number(attribute.bytes).map { DeviceProperty(entry.group, index: index, entry.name, "\($0)") }
        case .flag:
            return number(attribute.bytes).map { DeviceProperty(entry.group, index: index, entry.name, $0 == 0 ? "no" : "yes") }
        case .named:
            guard let (name, value) = counter(attribute) else { return nil }
            return DeviceProperty(entry.group, name, "\(value)")
        }
    }

    /// A counter's name and value; nil: the attribute is none.
    public static func counter(_ attribute: DeviceState.Attribute) -> (name: String, value: UInt64)? {
        guard attribute.group == DeviceState.Group.counters.rawValue, attribute.number == 0, attribute.bytes.count > 8,
            let value = number(Array(attribute.bytes.prefix(8)))
        else { return nil }
        return (String(decoding: attribute.bytes.dropFirst(8), as: UTF8.self), value)
    }

    private static func number(_ bytes: [UInt8]) -> UInt64? {
        guard bytes.count == 8 else { return nil }
        return bytes.reversed().reduce(0) { $0 << 8 | UInt64($1) }
    }

    /// The attribute with a number for its value, or a flag.
    public func attribute(_ value: UInt64, queue: Int = 0) -> DeviceState.Attribute {
        make(queue, (0..<8).map { UInt8(truncatingIfNeeded: value >> ($0 * 8)) })
    }

    /// The attribute with a text.
    public func attribute(_ text: String, queue: Int = 0) -> DeviceState.Attribute { make(queue, Array(text.utf8)) }

    /// The attribute that is one counter.
    /// - Parameter place: which one of the device's it is; each has its own.
    public static func counter(_ name: String, _ value: UInt64, place: Int) -> DeviceState.Attribute {
        var attribute = DevicePropertyKey.counter.attribute(value, queue: place)
        attribute.bytes += Array(name.utf8)
        return attribute
    }

    /// Only what is agreed with a driver, and a queue's, has to be understood: a device can be the same without the
    /// rest.
    private func make(_ index: Int, _ bytes: [UInt8]) -> DeviceState.Attribute {
        let entry = entry
        let isRequired = [.agreement, .queue].contains(entry.group)
        return DeviceState.Attribute(entry.group, entry.number, index: UInt32(index), isRequired: isRequired, bytes)
    }

    /// Whether an attribute of this group and number is one of these.
    public static func knows(_ group: UInt16, _ number: UInt16) -> Bool {
        allCases.contains { $0.entry.group.rawValue == group && $0.entry.number == number }
    }
}
