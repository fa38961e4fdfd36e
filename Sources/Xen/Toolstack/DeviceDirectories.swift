// Puts a disk's directories into the store as libxl does: both sides at state 1 before either driver looks, and a
// record of the toolstack's own. In one transaction, so that no watcher sees half a device.

import XenStore
import XenTypes

/// Creates, lists and removes the directories of disks. Its waiting verbs take watch events from the client, which
/// therefore should be a connection of its own.
public struct DeviceDirectories: Sendable {
    /// The connection that is used; privileged.
    public let store: StoreClient

    /// Works through `store`.
    public init(store: StoreClient) { self.store = store }

    /// A disk to be attached.
    public struct Attachment: Hashable, Sendable {
        /// What is attached.
        public var disk: DiskSpecification
        /// The domain that sees it.
        public var frontend: DomainID
        /// The domain that serves it.
        public var backend: DomainID
        /// The target's device numbers where it is a block device: what Xen's block script would write. Xen's own
        /// numbers are the host's, so this has a meaning only where toolstack and backend share the host.
        public var physicalDevice: PhysicalDevice?

        /// A disk for `frontend`, served by `backend`.
        public init(
            _ disk: DiskSpecification, frontend: DomainID, backend: DomainID = .zero,
            physicalDevice: PhysicalDevice? = nil
        ) {
            self.disk = disk
            self.frontend = frontend
            self.backend = backend
            self.physicalDevice = physicalDevice
        }
    }

    /// A block device's numbers.
    public struct PhysicalDevice: Hashable, Sendable {
        /// The driver's number.
        public var major: UInt32
        /// The device's number within its driver.
        public var minor: UInt32
        /// From `st_rdev`'s two halves.
        public init(major: UInt32, minor: UInt32) {
            self.major = major
            self.minor = minor
        }
        /// `7:1a`: hexadecimal, as the block scripts write it.
        var node: String { "\(String(major, radix: 16)):\(String(minor, radix: 16))" }
    }

    /// Creates the directories; the device exists when this returns, and its drivers find it by their watches.
    public func create(_ attachment: Attachment) throws(ToolstackError) -> DevicePaths {
        let paths = try Self.paths(for: attachment)
        let created = try storing("\(attachment.disk.vdev): creating the device") { () throws(StoreError) in
            try store.transaction { (transaction) throws(StoreError) in
                try Self.write(attachment, at: paths, in: transaction)
            }
        }
        if !created { throw .deviceExists(attachment.disk.vdev.name, domain: attachment.frontend) }
        return paths
    }

    /// The place of a disk, decided by `backendtype`.
    static func paths(for attachment: Attachment) throws(ToolstackError) -> DevicePaths {
        let disk = attachment.disk
        let kind: BackendKind
        switch disk.backendType {
        case nil, .phy: kind = .vbd
        case .tap: kind = .vbd3
        case .qdisk: kind = .qdisk
        case .standalone:
            throw .unsupported("\(disk.vdev): backendtype: standalone serves virtio, not Xen's block protocol")
        }
        guard disk.specification == .xen else {
            throw .unsupported("\(disk.vdev): specification: virtio is not Xen's block protocol")
        }
        return DevicePaths(
            frontend: attachment.frontend, backend: attachment.backend, kind: kind, device: disk.vdev.number)
    }

    /// Writes all three directories; false, writing nothing, if the device is there already.
    static func write(
        _ attachment: Attachment, at paths: DevicePaths, in store: some StoreAccess
    ) throws(StoreError) -> Bool {
        try write(
            backend: backendNodes(attachment, kind: paths.kind), frontend: frontendNodes(attachment), at: paths, in: store)
    }

    /// Writes the three directories of a device of any kind; false, writing nothing, if it is there already.
    static func write(
        backend backendNodes: [(String, String)], frontend frontendNodes: [(String, String)], at paths: DevicePaths,
        in store: some StoreAccess
    ) throws(StoreError) -> Bool {
        if try store.exists(paths.recordPath) { return false }
        // The record first: what the guest or a driver domain does to its own directory never changes it.
        try store.write(paths.recordPath + "/frontend", paths.frontendPath)
        try store.write(paths.recordPath + "/backend", paths.backendPath)
        for (key, value) in backendNodes { try store.write("\(paths.recordPath)/\(key)", value) }

        let frontendOwned = [StorePermission(.none, paths.frontend), StorePermission(.read, paths.backend)]
        try makeAfresh(paths.frontendPath, frontendOwned, in: store)
        // The guest may change what lies in its own directory, so nobody but the guest believes it (attacks.md TS2).
        try store.write(paths.frontendPath + "/backend", paths.backendPath)
        for (key, value) in frontendNodes {
            try store.write("\(paths.frontendPath)/\(key)", value)
            try store.setPermissions("\(paths.frontendPath)/\(key)", frontendOwned)
        }

        let backendOwned = [StorePermission(.none, paths.backend), StorePermission(.read, paths.frontend)]
        try makeAfresh(paths.backendPath, backendOwned, in: store)
        try store.write(paths.backendPath + "/frontend", paths.frontendPath)
        for (key, value) in backendNodes { try store.write("\(paths.backendPath)/\(key)", value) }
        return true
    }

    private static func makeAfresh(
        _ path: String, _ permissions: [StorePermission], in store: some StoreAccess
    ) throws(StoreError) {
        try removeIfPresent(path, in: store)
        try store.makeDirectory(path)
        try store.setPermissions(path, permissions)
    }

    static func removeIfPresent(_ path: String, in store: some StoreAccess) throws(StoreError) {
        do { try store.remove(path) } catch .refused(let name, _) where name == "ENOENT" {}
    }

    /// Where Xen's hot-plug scripts live; a script named without a slash is looked for there.
    static let scriptDirectory = "/etc/xen/scripts"

    private static func backendNodes(_ attachment: Attachment, kind: BackendKind) -> [(String, String)] {
        let disk = attachment.disk
        var nodes: [(String, String)] = []
        switch kind {
        case .vbd: nodes.append(("params", disk.target))
        // `format:path`; libxl's word for raw and empty is aio.
        case .vbd3, .qdisk:
            let format = disk.format == .raw || disk.format == .empty ? "aio" : disk.format.rawValue
            nodes.append(("params", "\(format):\(disk.target)"))
        // No disk is asked for there.
        case .vif: break
        }
        if kind != .qdisk {
            let script = disk.script ?? (kind == .vbd ? "block" : "block-tap")
            nodes.append(("script", script.hasPrefix("/") ? script : "\(scriptDirectory)/\(script)"))
        }
        nodes += [
            ("frontend-id", "\(attachment.frontend)"), ("online", "1"), ("removable", disk.isRemovable ? "1" : "0"),
            ("bootable", "1"), ("state", "\(XenbusState.initialising.rawValue)"), ("dev", disk.vdev.name),
            ("type", kind.type), ("mode", disk.isReadOnly ? "r" : disk.isShared ? "w!" : "w"),
            ("device-type", disk.isCDROM ? "cdrom" : "disk"),
        ]
        if disk.isDirectIOSafe { nodes.append(("direct-io-safe", "1")) }
        if let delay = disk.reconnectDelay { nodes.append(("reconnect-delay", "\(delay)")) }
        nodes.append(("discard-enable", disk.offersDiscard ? "1" : "0"))
        nodes.append(("specification", disk.specification.rawValue))
        if let device = attachment.physicalDevice {
            nodes.append(("physical-device", device.node))
            nodes.append(("physical-device-path", disk.target))
        }
        return nodes
    }

    private static func frontendNodes(_ attachment: Attachment) -> [(String, String)] {
        let disk = attachment.disk
        return [
            ("backend-id", "\(attachment.backend)"), ("state", "\(XenbusState.initialising.rawValue)"),
            ("virtual-device", "\(disk.vdev.number)"), ("device-type", disk.isCDROM ? "cdrom" : "disk"),
            ("trusted", disk.trusted ?? true ? "1" : "0"),
        ]
    }
}
