// What the toolstack says of a vif, in the backend's directory.

import LinuxSystem
import XenBus
import XenStore
import XenTypes

/// An interface as the toolstack wants it served.
public struct NetworkSettings: Equatable, Sendable {
    /// Whose and which.
    public let device: DeviceID
    /// The frontend's address.
    public var address: MACAddress
    /// The name of the interface on this side; nil: `vif<domain>.<number>`.
    public var name: String?
    /// The bridge that it becomes a port of.
    public var bridge: String?
    /// Its VLANs as a port of the bridge; nil: as the bridge has it for any port.
    public var vlans: PortVlans?
    /// Bytes of payload in a frame, if the toolstack says so.
    public var wantedMTU: Int?
    /// The same; where nothing is said, what an Ethernet has.
    public var mtu: Int {
        get { wantedMTU ?? Self.usualMTU }
        set { wantedMTU = newValue }
    }
    /// An Ethernet's MTU.
    public static let usualMTU = 1500
    /// Bytes that the frontend may send in a period, and the period in microseconds (`rate`).
    public var rate: CreditRate?

    /// The hot-plug script that the toolstack names.
    public var script: String?
    /// The interface that this one is wired to, with nothing between (`peer`, Causeway's own node); nil: it has a
    /// device of this host's.
    public var peer: DeviceID?
    /// Whether a script puts the interface in its place (address, bridge, up), which else is for whoever opens it.
    public var isPlacedByScript = false

    /// The interface's name on this side. A script that has not run yet gives it the wanted name itself, and refuses if
    /// that exists.
    public var interface: String {
        let plain = "vif\(device.frontend).\(device.number)"
        return isPlacedByScript ? plain : name ?? plain
    }

    /// An interface with this address and nothing else asked for: an MTU of 1500 bytes, no bridge, no rate.
    public init(device: DeviceID, address: MACAddress) {
        self.device = device
        self.address = address
    }

    /// Reads the settings in the backend's directory. The frontend's own `mac` never overrides the toolstack's
    /// (attacks.md B29).
    public static func read(from store: some StoreAccess, at path: BackendPath) throws(XenbusError) -> NetworkSettings {
        let base = path.path
        let text = try store.requiredText("\(base)/mac")
        guard let address = MACAddress(text) else {
            throw .malformed(MalformedNode("\(base)/mac", "is \(StoreNumber.quote(text)), not an Ethernet address"))
        }
        var settings = NetworkSettings(device: path.device, address: address)
        settings.rate = try rate(store, "\(base)/rate")
        if let script = try store.text("\(base)/script"), !script.isEmpty { settings.script = script }
        settings.peer = try peer(store, "\(base)/peer")
        settings.name = try interfaceName(store, "\(base)/vifname")
        settings.bridge = try interfaceName(store, "\(base)/bridge")
        settings.vlans = try vlans(store, "\(base)/vlan")
        settings.wantedMTU = try store.number("\(base)/mtu", in: 68...65521)
        return settings
    }

    private static func interfaceName(_ store: some StoreAccess, _ node: String) throws(XenbusError) -> String? {
        guard let name = try store.text(node), !name.isEmpty else { return nil }
        guard HostInterface.isName(name) else {
            throw .malformed(MalformedNode(node, "is \(StoreNumber.quote(name)), no interface's name"))
        }
        return name
    }

    private static func vlans(_ store: some StoreAccess, _ node: String) throws(XenbusError) -> PortVlans? {
        guard let text = try store.text(node), !text.isEmpty else { return nil }
        do throws(PortVlans.Fault) { return try PortVlans(text) } catch {
            throw .malformed(MalformedNode(node, "is \(StoreNumber.quote(text)): \(error.reason)"))
        }
    }

    private static func rate(_ store: some StoreAccess, _ node: String) throws(XenbusError) -> CreditRate? {
        guard let text = try store.text(node) else { return nil }
        guard let rate = CreditRate(text) else {
            throw .malformed(MalformedNode(node, "is \(StoreNumber.quote(text)), not BYTES,MICROSECONDS"))
        }
        return rate
    }

    private static func peer(_ store: some StoreAccess, _ node: String) throws(XenbusError) -> DeviceID? {
        guard let text = try store.text(node) else { return nil }
        let parts = text.split(separator: "/", omittingEmptySubsequences: false)
        guard parts.count == 2, let domain = StoreNumber.parse(parts[0], as: UInt16.self), DomainID(domain).isOrdinary,
            let number = StoreNumber.parse(parts[1], as: UInt32.self)
        else { throw .malformed(MalformedNode(node, "is \(StoreNumber.quote(text)), not DOMAIN/NUMBER")) }
        return DeviceID(frontend: DomainID(domain), number: number)
    }
}
