// Where a device's two directories are. Paths come from the toolstack; what stands in them is the peer's word.

import XenTypes

/// Which kind of device a directory holds, by its name in store paths: `vbd`, `vif`, `qdisk`. The names are the device
/// classes' own.
public struct DeviceKind: Sendable, Hashable, CustomStringConvertible {
    /// The directory's name.
    public let description: String

    /// Devices whose directories are called `name`.
    public init(_ name: String) { description = name }
}

/// One device as its backend names it: whose it is and its number there.
public struct DeviceID: Hashable, Sendable, CustomStringConvertible {
    /// The frontend's domain.
    public let frontend: DomainID
    /// The device's number, such as 51712 for xvda.
    public let number: UInt32

    /// Names device `number` of `frontend`.
    public init(frontend: DomainID, number: UInt32) {
        self.frontend = frontend
        self.number = number
    }

    /// `1/51712`, as paths have it.
    public var description: String { "\(frontend)/\(number)" }
}

/// The backend's own directory for a device, and those above it.
public struct BackendPath: Hashable, Sendable {
    /// The domain the backend runs in.
    public let backend: DomainID
    /// The directory's kind.
    public let kind: DeviceKind
    /// The device.
    public let device: DeviceID

    /// Names the directory of `device` under `backend`.
    public init(backend: DomainID, kind: DeviceKind, device: DeviceID) {
        self.backend = backend
        self.kind = kind
        self.device = device
    }

    /// `/local/domain/0/backend/vbd/1/51712`.
    public var path: String { "\(Self.root(backend, kind))/\(device)" }
    /// `/local/domain/0/error/backend/vbd/1/51712/error`: where a fatal error's text goes (Linux xenbus_client.c).
    public var errorNode: String { "/local/domain/\(backend)/error/backend/\(kind)/\(device)/error" }

    /// `/local/domain/0/backend/vbd`: what a backend watches.
    public static func root(_ backend: DomainID, _ kind: DeviceKind) -> String { "/local/domain/\(backend)/backend/\(kind)" }

    /// The device that `path`, somewhere below the root, belongs to; nil for the root itself and for anything
    /// malformed, which a hostile directory may well be (attacks.md D15).
    public static func device(of path: String, backend: DomainID, kind: DeviceKind) -> DeviceID? {
        let prefix = root(backend, kind) + "/"
        guard path.hasPrefix(prefix) else { return nil }
        let parts = path.dropFirst(prefix.count).split(separator: "/", omittingEmptySubsequences: false)
        guard parts.count >= 2, let domain = StoreNumber.parse(parts[0], as: UInt16.self),
            let number = StoreNumber.parse(parts[1], as: UInt32.self), DomainID(domain).isOrdinary
        else { return nil }
        return DeviceID(frontend: DomainID(domain), number: number)
    }
}

/// A frontend's own directory for a device.
public struct FrontendPath: Hashable, Sendable {
    /// The frontend's domain.
    public let domain: DomainID
    /// The directory's kind.
    public let kind: DeviceKind
    /// The device's number.
    public let number: UInt32

    /// Names the directory of device `number` in `domain`.
    public init(domain: DomainID, kind: DeviceKind, number: UInt32) {
        self.domain = domain
        self.kind = kind
        self.number = number
    }

    /// `/local/domain/1/device/vbd/51712`.
    public var path: String { "/local/domain/\(domain)/device/\(kind)/\(number)" }
    /// `/local/domain/1/error/device/vbd/51712/error`.
    public var errorNode: String { "/local/domain/\(domain)/error/device/\(kind)/\(number)/error" }
}
