// An interface as a port of a bridge: in it, in its VLANs, and at no cost to the bridge's other members.

import CLinux

/// SAFETY: each name here is only read, during the call that it is given to.
extension HostInterface {
    /// Makes it a port of a bridge; nothing happens if it is one already. The kernel sets a bridge's MTU to its ports'
    /// least: it is set back to what it was, for the sake of those that were there before.
    public static func join(_ name: String, bridge: String) throws(Errno) {
        try keepingMTU(of: bridge) { () throws(Errno) in
            _ = try retryingInterrupts { unsafe causeway_bridge_add(bridge, name) }
        }
    }

    /// Sets an interface's MTU, bytes; if it is a port, its bridge's stays what it is, or becomes more.
    public static func setMTU(_ name: String, _ mtu: Int) throws(Errno) {
        try keepingMTU(of: bridge(of: name)) { () throws(Errno) in
            _ = try retryingInterrupts { unsafe causeway_interface_set_mtu(name, Int32(clamping: mtu)) }
        }
    }

    private static func keepingMTU(of bridge: String?, _ body: () throws(Errno) -> Void) throws(Errno) {
        let before = bridge.flatMap { mtu(of: $0) }
        try body()
        if let bridge, let before, let after = mtu(of: bridge), after < before {
            _ = try retryingInterrupts { unsafe causeway_interface_set_mtu(bridge, Int32(clamping: before)) }
        }
    }

    /// The bridge, or another interface above it, that it is a port of; nil: none.
    package static func bridge(of name: String) -> String? {
        let index = unsafe causeway_interface_master(name)
        return index > 0 ? self.name(of: UInt32(index)) : nil
    }

    /// Whether a bridge looks at VLANs (`vlan_filtering`); fails where there is no such bridge, or the kernel has none
    /// that does.
    package static func filtersVLANs(_ bridge: String) throws(Errno) -> Bool {
        try retryingInterrupts { unsafe causeway_bridge_filters_vlans(bridge) } != 0
    }

    /// Puts a bridge's port into VLANs, all with the same marks.
    /// - Parameters:
    ///   - numbers: one, or as many as lie in a row.
    ///   - isPrimary: whether frames that come in without a tag are this VLAN's; for one.
    ///   - isUntagged: whether frames go out without their tag.
    package static func addVLANs(_ name: String, _ numbers: ClosedRange<UInt16>, isPrimary: Bool, isUntagged: Bool) throws(Errno) {
        _ = try retryingInterrupts {
            unsafe causeway_port_vlans(name, numbers.lowerBound, numbers.upperBound, isPrimary ? 1 : 0, isUntagged ? 1 : 0, 1)
        }
    }

    /// Takes a bridge's port out of every VLAN.
    package static func removeVLANs(_ name: String) throws(Errno) {
        _ = try retryingInterrupts { unsafe causeway_port_vlans(name, 1, 4094, 0, 0, 0) }
    }
}
