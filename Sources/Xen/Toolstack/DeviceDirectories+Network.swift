// A vif's directories, as libxl writes them, and their list.

import LinuxSystem
import XenStore
import XenTypes

/// One row of `network-list`.
public struct VifListing: Hashable, Sendable {
    /// Its directories.
    public var paths: DevicePaths
    /// Its address, as the toolstack wrote it.
    public var mac: String
    /// The interface's name on the backend's side, and the bridge it hangs on; empty where there is none.
    public var name: String
    /// The bridge that it joins; empty for none.
    public var bridge: String
    /// `-1` where the frontend's node is missing or no number, as in xl; likewise the three below.
    public var state: Int
    /// The frontend's port; -1 before there is one.
    public var eventChannel: Int
    /// The transmit ring's grant; -1 before there is one.
    public var transmitRing: Int
    /// The receive ring's grant; -1 before there is one.
    public var receiveRing: Int

    /// xl's heading.
    public static let heading = row(["Idx", "BE", "Mac Addr.", "handle", "state", "evt-ch", "tx-/rx-ring-ref", "BE-path"])

    /// xl's columns.
    public var row: String {
        Self.row([
            "\(paths.device)", "\(paths.backend)", mac, "\(paths.device)", "\(state)", "\(eventChannel)",
            "\(transmitRing)/\(receiveRing)", paths.backendPath,
        ])
    }

    private static func row(_ cells: [String]) -> String {
        let widths = [3, 2, 17, 6, 5, 6, 15, 30]
        return zip(cells, widths).map { cell, width in cell + String(repeating: " ", count: max(0, width - cell.count)) }
            .joined(separator: " ")
    }
}

extension DeviceDirectories {
    /// Creates an interface's directories; without a number in `vif` it gets the first that is free, without an address
    /// one made up from `random`. A peer's domain must be a number.
    public func create(
        _ vif: VifSpecification, frontend: DomainID, backend: DomainID = .zero, random: some RandomSource
    ) throws(ToolstackError) -> DevicePaths {
        let number: UInt32
        if let given = vif.number {
            number = given
        } else {
            let taken = Set(try listInterfaces(of: frontend).map(\.paths.device))
            number = (0...UInt32(taken.count)).first { !taken.contains($0) } ?? 0
        }
        let paths = DevicePaths(frontend: frontend, backend: backend, kind: .vif, device: number)
        let mac = vif.mac ?? VifSpecification.randomAddress(from: random)
        let created = try storing("vif \(number): creating the device") { () throws(StoreError) in
            try store.transaction { (transaction) throws(StoreError) in
                try Self.write(
                    backend: Self.backendNodes(vif, mac, paths), frontend: Self.frontendNodes(vif, mac, paths), at: paths,
                    in: transaction)
            }
        }
        if !created { throw .deviceExists("vif \(number)", domain: frontend) }
        return paths
    }

    private static func backendNodes(_ vif: VifSpecification, _ mac: MACAddress, _ paths: DevicePaths) -> [(String, String)] {
        let script = vif.script ?? "vif-bridge"
        var nodes = [
            ("frontend-id", "\(paths.frontend)"), ("online", "1"), ("state", "\(XenbusState.initialising.rawValue)"),
            ("script", script.hasPrefix("/") ? script : "\(scriptDirectory)/\(script)"), ("mac", mac.description),
            ("handle", "\(paths.device)"), ("type", "vif"), ("hotplug-status", ""),
        ]
        for (key, value) in [
            ("bridge", vif.bridge), ("gatewaydev", vif.gatewayDevice), ("vifname", vif.name), ("ip", vif.ip),
            ("vlan", vif.vlans?.description),
            ("mtu", vif.mtu.map { "\($0)" }), ("rate", vif.rate.map { "\($0.bytesPerInterval),\($0.microseconds)" }),
        ] {
            if let value { nodes.append((key, value)) }
        }
        if case .device(let domain, let number) = vif.peer { nodes.append(("peer", "\(domain)/\(number)")) }
        return nodes
    }

    private static func frontendNodes(_ vif: VifSpecification, _ mac: MACAddress, _ paths: DevicePaths) -> [(String, String)] {
        var nodes = [
            ("backend-id", "\(paths.backend)"), ("state", "\(XenbusState.initialising.rawValue)"), ("handle", "\(paths.device)"),
            ("mac", mac.description), ("trusted", vif.trusted == false ? "0" : "1"),
        ]
        if let mtu = vif.mtu { nodes.append(("mtu", "\(mtu)")) }
        return nodes
    }

    /// A domain's interfaces, by number.
    public func listInterfaces(of domain: DomainID) throws(ToolstackError) -> [VifListing] {
        try storing("listing domain \(domain)'s interfaces") { () throws(StoreError) in
            try Self.listInterfaces(of: domain, in: store)
        }
    }

    private static func listInterfaces(of domain: DomainID, in store: some StoreAccess) throws(StoreError) -> [VifListing] {
        let names: [String]
        do { names = try store.directory(DevicePaths.records(domain, .vif)) } catch .refused(let name, _)
            where name == "ENOENT"
        {
            return []
        }
        var found: [VifListing] = []
        for device in names.compactMap({ UInt32($0) }).sorted() {
            let record = "\(DevicePaths.records(domain, .vif))/\(device)"
            guard let backend = try store.value(record + "/backend"),
                let paths = DevicePaths(backendPath: backend, frontend: domain, device: device), paths.kind == .vif
            else { continue }
            let queue = try store.value(paths.frontendPath + "/queue-0/tx-ring-ref") == nil ? "" : "/queue-0"
            let ring = paths.frontendPath + queue
            var listing = VifListing(
                paths: paths, mac: try store.value(record + "/mac") ?? "", name: try store.value(record + "/vifname") ?? "",
                bridge: try store.value(record + "/bridge") ?? "",
                state: try Self.guestNumber(paths.frontendPath + "/state", in: store),
                eventChannel: try Self.guestNumber(ring + "/event-channel", in: store),
                transmitRing: try Self.guestNumber(ring + "/tx-ring-ref", in: store),
                receiveRing: try Self.guestNumber(ring + "/rx-ring-ref", in: store))
            if listing.eventChannel < 0 {
                listing.eventChannel = try Self.guestNumber(ring + "/event-channel-tx", in: store)
            }
            found.append(listing)
        }
        return found
    }

    /// The interface with this number or address.
    public func findInterface(_ name: String, of domain: DomainID) throws(ToolstackError) -> VifListing {
        let mac = MACAddress(name)
        let found = try listInterfaces(of: domain).first {
            "\($0.paths.device)" == name || (mac != nil && MACAddress($0.mac) == mac)
        }
        guard let found else { throw .noSuchDevice("vif \(name)", domain: domain) }
        return found
    }

    /// A guest's number: -1 unless it is a plain one that fits.
    private static func guestNumber(_ path: String, in store: some StoreAccess) throws(StoreError) -> Int {
        guard let text = try store.value(path), let number = UInt32(text) else { return -1 }
        return Int(number)
    }
}
