// The store's nodes of a device that a bus has, in a device class of our own: what the toolstack writes, what the
// backend says of the device, and what a frontend shares. See Docs/bus.md.

import DeviceBus
import XenBus
import XenStore
import XenTypes

extension DeviceKind {
    /// Devices on a bus: `device/vdevice` and `backend/vdevice`.
    public static let busDevice = DeviceKind("vdevice")
}

/// Bounds of the class.
enum BusLimits {
    /// Shares of a device that can be carried.
    static let shares = 16
}

/// What a backend says of a device: state 2.
struct BusOffer: Equatable {
    var type: String
    var versions: ClosedRange<UInt32>
    var shares: Int

    func write(to store: some StoreAccess, at path: String) throws(XenbusError) {
        try store.put(path + "/device-type", type)
        try store.put(path + "/version-min", versions.lowerBound)
        try store.put(path + "/version-max", versions.upperBound)
        try store.put(path + "/shares", shares)
    }

    static func read(from store: some StoreAccess, at path: String) throws(XenbusError) -> BusOffer {
        let type = try store.requiredText(path + "/device-type")
        let lowest = try store.requiredNumber(path + "/version-min", in: UInt32(0)...UInt32.max)
        let highest = try store.requiredNumber(path + "/version-max", in: lowest...UInt32.max)
        let shares = try store.requiredNumber(path + "/shares", in: 1...BusLimits.shares)
        return BusOffer(type: type, versions: lowest...highest, shares: shares)
    }
}

/// One share of a frontend's: a page, and a doorbell for both ways.
struct BusShareKeys: Equatable {
    /// The page's grant.
    var page: GrantReference
    /// The frontend's port.
    var port: EventPort
    /// Whether the backend may only read it.
    var isReadOnly: Bool

    func write(to store: some StoreAccess, at path: String, _ index: Int) throws(XenbusError) {
        let share = "\(path)/share-\(index)"
        try store.put(share + "/page-ref", page.rawValue)
        try store.put(share + "/event-channel", port.rawValue)
        try store.put(share + "/read-only", isReadOnly ? 1 : 0)
    }

    /// nil: the frontend does not share anything under this number.
    static func read(from store: some StoreAccess, at path: String, _ index: Int) throws(XenbusError) -> BusShareKeys? {
        let share = "\(path)/share-\(index)"
        guard let page = try store.number(share + "/page-ref", in: 0...UInt32.max) else { return nil }
        let port = try store.requiredNumber(share + "/event-channel", in: UInt32(1)...UInt32.max)
        return BusShareKeys(
            page: GrantReference(page), port: EventPort(port), isReadOnly: try store.flag(share + "/read-only"))
    }
}

/// What a toolstack does: the two directories of a device.
public enum BusDirectories {
    /// Gives a domain a device of a bus, by the device's name there; both sides at state 1, in one transaction.
    /// - Parameters:
    ///   - number: the device's, of the frontend's domain and this class.
    ///   - backend: the domain whose backend has the bus.
    public static func create(
        _ name: String, number: UInt32, frontend: DomainID, backend: DomainID = .zero, in store: StoreClient
    ) throws(XenbusError) {
        let front = FrontendPath(domain: frontend, kind: .busDevice, number: number).path
        let back = BackendPath(
            backend: backend, kind: .busDevice, device: DeviceID(frontend: frontend, number: number)
        ).path
        do throws(StoreError) {
            try store.transaction { access throws(StoreError) in
                try directory(
                    front, [StorePermission(.none, frontend), StorePermission(.read, backend)],
                    [("backend", back), ("backend-id", "\(backend)"), ("state", "1")], access)
                try directory(
                    back, [StorePermission(.none, backend), StorePermission(.read, frontend)],
                    [("frontend", front), ("frontend-id", "\(frontend)"), ("online", "1"), ("bus-device", name), ("state", "1")],
                    access)
            }
        } catch { throw .store(error) }
    }

    private static func directory(
        _ path: String, _ permissions: [StorePermission], _ nodes: [(String, String)], _ store: some StoreAccess
    ) throws(StoreError) {
        try store.makeDirectory(path)
        try store.setPermissions(path, permissions)
        for (name, value) in nodes {
            try store.write("\(path)/\(name)", value)
            try store.setPermissions("\(path)/\(name)", permissions)
        }
    }

    /// Takes a device away, in good order: its frontend is told to let go.
    public static func takeAway(
        number: UInt32, frontend: DomainID, backend: DomainID = .zero, in store: StoreClient
    ) throws(XenbusError) {
        let back = BackendPath(
            backend: backend, kind: .busDevice, device: DeviceID(frontend: frontend, number: number)
        ).path
        try store.put(back + "/online", 0)
        try store.switchState(of: back, to: .closing)
    }
}
