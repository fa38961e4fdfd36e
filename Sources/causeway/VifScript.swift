// Scripts of xl's kind for interfaces: called with `online` when a tap is there and with `offline` when it is let go, told of the rest by
// variables and the store (Xen's docs/misc/vif-common.sh). On a loopback host the backend calls them, as xl does on Xen.

import DMA
import Glibc
import HostDevices
import LinuxSystem
import NetworkBackend
import Packets
import XenWire

/// How to call one interface's script.
struct VifScript: Sendable {
    let path: String
    let interface: String
    /// `backend/vif/1/0`, relative to the backend's domain as scripts expect it.
    let busPath: String
    let storeSocket: String
    static let seconds = 10

    /// The script that `settings` names; nil for none, and for vif-bridge, which is built in.
    init?(_ settings: NetworkSettings, storeSocket: String) {
        guard let path = settings.script, path.split(separator: "/").last != "vif-bridge" else { return nil }
        self.path = path
        self.storeSocket = storeSocket
        interface = settings.interface
        busPath = "backend/vif/\(settings.device)"
    }

    /// Calls it and waits for its end; what it prints goes to our stderr.
    func run(_ action: String) throws(Failure) {
        let child = try ChildProcess.start(
            [path, action, "type_if=vif"],
            adding: [
                "vif": interface, "netdev": interface, "script": path, "XENBUS_TYPE": "vif", "XENBUS_PATH": busPath,
                "XENBUS_BASE_PATH": "backend", "XENSTORED_PATH": storeSocket,
            ], ownGroup: true, output: dup(2))
        let end = ContinuousClock.now + .seconds(Self.seconds)
        while true {
            if let status = child.reap() {
                guard status == .exited(0) else { throw Failure("\(path) \(action): \(status)") }
                return
            }
            guard ContinuousClock.now < end else {
                child.stop(milliseconds: 500)
                throw Failure("\(path) \(action): not done after \(Self.seconds) s")
            }
            usleep(2000)
        }
    }
}

/// A tap whose script is to be called once more when nobody is to use it any more.
final class ScriptedTap: NetworkDevice {
    private let tap: TapDevice
    private let script: VifScript

    init(_ tap: TapDevice, _ script: VifScript) {
        self.tap = tap
        self.script = script
    }

    var name: String { tap.name }
    var mtu: Int { tap.mtu }
    func setOffloads(_ offloads: OffloadSet) throws(Errno) { try tap.setOffloads(offloads) }
    func openQueue(bus: MemoryBus) throws(Errno) -> any NetworkDeviceQueue { try tap.openQueue(bus: bus) }
    func setCarrier(_ isUp: Bool) throws(Errno) { try tap.setCarrier(isUp) }

    func retire() {
        do throws(Failure) { try script.run("offline") } catch { complain("netback: tap \(name): \(error.message ?? "")") }
        tap.retire()
    }
}
