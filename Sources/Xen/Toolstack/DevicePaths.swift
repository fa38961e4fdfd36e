// Where a device's three directories lie: the frontend's, the backend's, and the toolstack's own record.

import XenTypes

/// What kind of backend directory serves a device (`/local/domain/BE/backend/KIND/…`).
public enum BackendKind: String, Hashable, Sendable, CaseIterable {
    /// `backendtype=phy`, and the default.
    case vbd
    /// `backendtype=tap`.
    case vbd3
    /// `backendtype=qdisk`.
    case qdisk
    /// A network interface.
    case vif

    /// The directory's name on the frontend's side.
    var frontendName: String { self == .vif ? "vif" : "vbd" }

    /// The value of the backend's `type` node, as libxl writes it.
    public var type: String { self == .vbd ? "phy" : rawValue }
}

/// One device's place in the store.
public struct DevicePaths: Hashable, Sendable {
    /// The domain that sees the device.
    public let frontend: DomainID
    /// The domain that serves it.
    public let backend: DomainID
    /// Which backend directory.
    public let kind: BackendKind
    /// The device's number: a disk's `virtual-device`, an interface's `handle`.
    public let device: UInt32

    /// The paths of device number `device`.
    public init(frontend: DomainID, backend: DomainID, kind: BackendKind = .vbd, device: UInt32) {
        self.frontend = frontend
        self.backend = backend
        self.kind = kind
        self.device = device
    }

    /// `/local/domain/FE/device/vbd/DEVID`: the frontend domain writes here.
    public var frontendPath: String { "\(Self.domain(frontend))/device/\(kind.frontendName)/\(device)" }
    /// `/local/domain/BE/backend/KIND/FE/DEVID`: the backend domain writes here.
    public var backendPath: String { "\(Self.domain(backend))/backend/\(kind.rawValue)/\(frontend)/\(device)" }
    /// `/libxl/FE/device/vbd/DEVID`: nobody but the toolstack writes here, so only this is believed afterwards
    /// (attacks.md TS2, TS3).
    public var recordPath: String { "\(Self.records(frontend, kind))/\(device)" }

    /// `/local/domain/BE/error/backend/KIND/FE/DEVID`: where the backend leaves an error's text.
    var backendErrorPath: String { "\(Self.domain(backend))/error/backend/\(kind.rawValue)/\(frontend)/\(device)" }

    /// `/local/domain/N`.
    public static func domain(_ domain: DomainID) -> String { "/local/domain/\(domain)" }
    /// The directory of a domain's records, of its disks or its interfaces.
    static func records(_ domain: DomainID, _ kind: BackendKind = .vbd) -> String {
        "/libxl/\(domain)/device/\(kind.frontendName)"
    }

    /// The paths that a record's `backend` node names; nil unless it has the form that the toolstack writes for this
    /// device.
    init?(backendPath: String, frontend: DomainID, device: UInt32) {
        let parts = backendPath.split(separator: "/", omittingEmptySubsequences: false)
        guard parts.count == 8, parts[0].isEmpty, parts[1] == "local", parts[2] == "domain", parts[4] == "backend",
            let backend = UInt16(parts[3]), let kind = BackendKind(rawValue: String(parts[5])),
            parts[6] == "\(frontend)", parts[7] == "\(device)"
        else { return nil }
        self.init(frontend: frontend, backend: DomainID(backend), kind: kind, device: device)
    }
}
