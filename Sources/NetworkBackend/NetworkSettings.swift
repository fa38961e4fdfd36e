// What the toolstack says of a vif, in the backend's directory (pv-protocols 2.1).

import XenBus
import XenStore
import XenWire

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
    /// Bytes of payload in a frame.
    public var mtu: Int
    /// Bytes that the frontend may send in a period, and the period in microseconds (`rate`).
    public var rate: CreditRate?

    /// The hot-plug script that the toolstack names.
    public var script: String?
    /// The interface that this one is wired to, with nothing between (`peer`, Causeway's own node); nil: it has a device of this host's.
    public var peer: DeviceID?
    /// Whether a script puts the interface in its place (address, bridge, up), which else is for whoever opens it.
    public var isPlacedByScript = false

    /// The interface's name on this side. A script that has not run yet gives it the wanted name itself, and refuses if that exists.
    public var interface: String {
        let plain = "vif\(device.frontend).\(device.number)"
        return isPlacedByScript ? plain : name ?? plain
    }

    /// Settings as given.
    public init(
        device: DeviceID, address: MACAddress, name: String? = nil, bridge: String? = nil, mtu: Int = 1500, rate: CreditRate? = nil,
        script: String? = nil, peer: DeviceID? = nil
    ) {
        self.peer = peer
        self.script = script
        self.device = device
        self.address = address
        self.name = name
        self.bridge = bridge
        self.mtu = mtu
        self.rate = rate
    }

    /// Reads the settings in the backend's directory. The frontend's own `mac` never overrides the toolstack's (attacks.md B29).
    public static func read(from store: some StoreAccess, at path: BackendPath) throws(XenbusError) -> NetworkSettings {
        let base = path.path
        let text = try store.requiredText("\(base)/mac")
        guard let address = MACAddress(text) else {
            throw .malformed(MalformedNode("\(base)/mac", "is \(StoreNumber.quote(text)), not an Ethernet address"))
        }
        func named(_ key: String) throws(XenbusError) -> String? {
            guard let name = try store.text("\(base)/\(key)"), !name.isEmpty else { return nil }
            guard name.utf8.count < 16, !name.contains("/"), !name.contains(" ") else {
                throw .malformed(MalformedNode("\(base)/\(key)", "is \(StoreNumber.quote(name)), no interface's name"))
            }
            return name
        }
        var rate: CreditRate?
        if let text = try store.text("\(base)/rate") {
            guard let parsed = CreditRate(text) else {
                throw .malformed(MalformedNode("\(base)/rate", "is \(StoreNumber.quote(text)), not BYTES,MICROSECONDS"))
            }
            rate = parsed
        }
        var script = try store.text("\(base)/script")
        if script?.isEmpty == true { script = nil }
        var peer: DeviceID?
        if let text = try store.text("\(base)/peer") {
            let parts = text.split(separator: "/", omittingEmptySubsequences: false)
            guard parts.count == 2, let domain = StoreNumber.parse(parts[0], as: UInt16.self), DomainID(domain).isOrdinary,
                let number = StoreNumber.parse(parts[1], as: UInt32.self)
            else { throw .malformed(MalformedNode("\(base)/peer", "is \(StoreNumber.quote(text)), not DOMAIN/NUMBER")) }
            peer = DeviceID(frontend: DomainID(domain), number: number)
        }
        return NetworkSettings(
            device: path.device, address: address, name: try named("vifname"), bridge: try named("bridge"),
            mtu: try store.number("\(base)/mtu", in: 68...65521) ?? 1500, rate: rate, script: script,
            peer: peer)
    }
}
