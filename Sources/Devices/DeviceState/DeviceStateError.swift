// Why bytes are no state. Nothing is changed by a state that is refused.

/// What is wrong with a state stream.
public enum DeviceStateError: Error, Equatable, Sendable, CustomStringConvertible {
    /// It does not begin as one does.
    case notAState
    /// Of a version that is not known here.
    case unknownVersion(UInt16)
    /// It ends too early.
    case truncated(byteCount: Int)
    /// Its sum is another, or there is something behind its end.
    case damaged
    /// A device or a transport of a kind that is not known here.
    case unknownKind(kind: UInt16, transport: UInt16)
    /// An attribute that would have to be understood, and is not.
    case notUnderstood(group: UInt16, number: UInt16)

    /// In one line.
    public var description: String {
        switch self {
        case .notAState: "no device state: it does not begin with CWDV"
        case .unknownVersion(let version): "a device state of version \(version); known is \(DeviceState.version)"
        case .truncated(let byteCount): "a device state that ends after \(byteCount) bytes"
        case .damaged: "a damaged device state: its sum is not right"
        case .unknownKind(let kind, let transport):
            "a device state of kind \(kind) over transport \(transport), which are not known"
        case .notUnderstood(let group, let number):
            "a device state with attribute \(number) of group \(group), which has to be understood and is not"
        }
    }
}
