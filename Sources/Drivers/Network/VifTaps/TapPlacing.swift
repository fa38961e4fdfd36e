// A new tap into its place, as Xen's vif-bridge does: its address, its size, its bridge with its VLANs there, up.

import DriverRuntime
import LinuxSystem
import NetworkBackend
import XenTypes

/// Puts taps into their places.
enum TapPlacing {
    /// Sets what `settings` ask for; where a script is to do it only what the script relies on.
    static func place(_ settings: NetworkSettings, _ name: String, log: (String) -> Void) throws(DeviceOpenFailure) {
        let mtu = mtu(settings)
        // Down first: a bridge must not see another address than the one that no bridge adopts (protocol-rules.md 43).
        try doing("tap \(name): its address") { () throws(Errno) in try HostInterface.setAddress(name, .backend) }
        try doing("tap \(name): mtu \(mtu)") { () throws(Errno) in try HostInterface.setMTU(name, mtu) }
        if settings.isPlacedByScript { return }
        if let bridge = settings.bridge {
            if let vlans = settings.vlans { try expectVLANs(name, bridge, vlans) }
            try doing("tap \(name): bridge \(bridge)") { () throws(Errno) in try HostInterface.join(name, bridge: bridge) }
            if let vlans = settings.vlans {
                try doing("tap \(name): vlan \(vlans)") { () throws(Errno) in try join(name, vlans) }
            }
        } else if let vlans = settings.vlans, settings.script.map({ $0.hasSuffix("/vif-bridge") }) ?? true {
            log("tap \(name): vlan \(vlans): it is in no bridge; nothing keeps VLANs apart")
        }
        try doing("tap \(name): up") { () throws(Errno) in try HostInterface.setUp(name) }
    }

    /// What the toolstack says, else the bridge's: a smaller one would make frames of the others' too large for it.
    static func mtu(_ settings: NetworkSettings) -> Int {
        if let wanted = settings.wantedMTU { return wanted }
        return settings.bridge.flatMap { HostInterface.mtu(of: $0) } ?? settings.mtu
    }

    /// Before anything is done: a port that is in no VLAN where others think it is would get what is not for it.
    private static func expectVLANs(_ name: String, _ bridge: String, _ vlans: PortVlans) throws(DeviceOpenFailure) {
        do throws(Errno) {
            if try HostInterface.filtersVLANs(bridge) { return }
        } catch { throw DeviceOpenFailure(error, "tap \(name): vlan \(vlans): bridge \(bridge) knows no VLANs: \(error)") }
        throw DeviceOpenFailure(
            .notSupported,
            "tap \(name): vlan \(vlans): bridge \(bridge) does not look at VLANs; `ip link set \(bridge) type bridge vlan_filtering 1` lets it"
        )
    }

    /// Only in those, whatever a new port of the bridge's is in by itself.
    private static func join(_ name: String, _ vlans: PortVlans) throws(Errno) {
        try HostInterface.removeVLANs(name)
        for term in vlans.terms {
            for run in runs(term.numbers) {
                try HostInterface.addVLANs(name, run, isPrimary: term.isPrimary, isUntagged: term.isUntagged)
            }
        }
    }

    /// Ascending numbers as ranges without gaps.
    static func runs(_ numbers: [UInt16]) -> [ClosedRange<UInt16>] {
        var runs: [ClosedRange<UInt16>] = []
        for number in numbers {
            if let last = runs.last, last.upperBound + 1 == number {
                runs[runs.count - 1] = last.lowerBound...number
            } else {
                runs.append(number...number)
            }
        }
        return runs
    }

    private static func doing(_ what: String, _ body: () throws(Errno) -> Void) throws(DeviceOpenFailure) {
        do throws(Errno) { try body() } catch { throw DeviceOpenFailure(error, "\(what): \(error)") }
    }
}
