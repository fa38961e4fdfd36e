// A network interface as xl's configuration describes it (xl-network-configuration(5)).

import LinuxSystem
import XenTypes

/// One interface: how a guest sees it and what it hangs on.
public struct VifSpecification: Hashable, Sendable {
    /// How much a guest may send (`rate`).
    public struct Rate: Hashable, Sendable {
        /// Bytes in each interval.
        public var bytesPerInterval: UInt64
        /// The interval, microseconds.
        public var microseconds: UInt32
        /// A rate.
        public init(bytesPerInterval: UInt64, microseconds: UInt32) {
            self.bytesPerInterval = bytesPerInterval
            self.microseconds = microseconds
        }
    }

    /// The other end of a wire (`peer`).
    public enum Peer: Hashable, Sendable {
        /// An interface with this address, which `causeway pair` makes.
        case address(MACAddress)
        /// An interface of its own, `DOMAIN/NUMBER`; the domain by name or number.
        case device(domain: String, number: UInt32)
    }

    /// The guest's address; nil: the toolstack makes one up.
    public var mac: MACAddress?
    /// `bridge=`: the bridge that the backend's device joins.
    public var bridge: String?
    /// `gatewaydev=`: the device that a routing script uses.
    public var gatewayDevice: String?
    /// The interface's name on the backend's side; nil: `vif<domain>.<number>`.
    public var name: String?
    /// `script=`: the hot-plug script.
    public var script: String?
    /// Addresses that the guest may use; for scripts.
    public var ip: String?
    /// The backend's domain, by name or number; nil for domain 0.
    public var backend: String?
    /// `rate=`: the most that the guest may send.
    public var rate: Rate?
    /// `mtu=`: bytes of payload in a frame.
    public var mtu: UInt32?
    /// `vlan=`: its VLANs as a port of the bridge.
    public var vlans: PortVlans?
    /// `trusted`, `untrusted`: whether the frontend may trust its backend.
    public var trusted: Bool?
    /// What it is wired to, back to back, instead of hanging on anything of the backend's host. Causeway's own
    /// parameter.
    public var peer: Peer?
    /// Whose the other side is; nil: a frontend's of Xen's. Causeway's own parameter.
    public var front: DeviceFront?
    /// The device's number; nil: the next that is free.
    public var number: UInt32?

    /// All defaults.
    public init() {}

    /// What tools put before a made-up address: Xen's own prefix.
    public static func randomAddress(from random: some RandomSource) -> MACAddress {
        MACAddress(littleEndian: 0x3E1600 | (random.next() & 0xFF_FFFF) << 24 & ~(UInt64(0x80) << 24))
    }
}
