// A device that is exported, of whatever kind: its server, and what is behind it beside that.

import LinuxSystem
import NetworkDevices
import VhostUser

/// One device's server, as a successor of this program finds it.
struct ExportedDevice {
    /// As messages name it.
    let name: String
    let server: VhostServer
    /// Of an interface.
    var vif: Behind?

    /// What an interface has behind it.
    struct Behind: Sendable {
        /// nil: its driver's own business.
        let mac: MACAddress?
        /// Its name on this host.
        let tap: String?
        let device: any NetworkDevice
    }
}

extension ExportSuccession.Device {
    /// A device that was put by, with such numbers.
    init(_ left: LeftDevice, _ number: (Descriptor) -> Int32) {
        name = left.name
        path = left.path
        listener = left.listener.map(number) ?? -1
        if case .whole(let handover) = left.session { frontend = ExportSuccession.Frontend(handover, number) }
        vif = left.vif.map { vif in
            ExportSuccession.Vif(mac: vif.mac.map { "\($0)" }, tap: vif.tap, lifeline: (vif.lifeline ?? []).map(number))
        }
    }

    /// A device, with the numbers that a successor knows its descriptors by.
    init(
        _ name: String, at path: String, _ listener: Descriptor, _ frontend: VhostHandover?, _ vif: ExportedDevice.Behind?,
        _ number: (Descriptor) -> Int32
    ) {
        self.name = name
        self.path = path
        self.listener = number(listener)
        self.frontend = frontend.map { ExportSuccession.Frontend($0, number) }
        self.vif = vif.map {
            ExportSuccession.Vif(mac: $0.mac.map { "\($0)" }, tap: $0.tap, lifeline: $0.device.lifeline.map(number))
        }
    }
}
