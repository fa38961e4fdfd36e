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
        let mac: MACAddress
        let tap: String?
        let device: any NetworkDevice
    }
}

extension ExportSuccession.Device {
    /// A device, with the numbers that a successor knows its descriptors by.
    init(
        _ name: String, at path: String, _ listener: Descriptor, _ frontend: VhostHandover?, _ vif: ExportedDevice.Behind?,
        _ number: (Descriptor) -> Int32
    ) {
        self.name = name
        self.path = path
        self.listener = number(listener)
        self.frontend = frontend.map { ExportSuccession.Frontend($0, number) }
        self.vif = vif.map { ExportSuccession.Vif(mac: "\($0.mac)", tap: $0.tap, lifeline: $0.device.lifeline.map(number)) }
    }
}
