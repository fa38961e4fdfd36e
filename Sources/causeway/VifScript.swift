// Scripts of xl's kind for interfaces: called with `online` when a tap is there and with `offline` when it is let go, told of the rest by
// variables and the store (Xen's docs/misc/vif-common.sh). On a loopback host the backend calls them, as xl does on Xen.

import Glibc
import NetworkBackend
import XenBus
import XenWire

/// How to call one interface's script.
struct VifScript: Sendable {
    let path: String
    let interface: String
    /// `backend/vif/1/0`, relative to the backend's domain as scripts expect it.
    let busPath: String
    let storeSocket: String
    static let seconds = 10

    /// The script at `path` for an interface of this name.
    init(_ path: String, for interface: String, of device: DeviceID, storeSocket: String) {
        self.path = path
        self.interface = interface
        self.storeSocket = storeSocket
        busPath = "backend/vif/\(device)"
    }

    /// The script that `settings` names; nil for none, and for vif-bridge, which is built in.
    init?(_ settings: NetworkSettings, storeSocket: String) {
        guard let path = settings.script, path.split(separator: "/").last != "vif-bridge" else { return nil }
        self.init(path, for: settings.interface, of: settings.device, storeSocket: storeSocket)
    }

    /// Calls it and waits for its end; what it prints goes to our stderr.
    func run(_ action: String) throws(Failure) {
        let errors = dup(2)
        defer { close(errors) }
        let child = try ChildProcess.start(
            [path, action, "type_if=vif"],
            adding: [
                "vif": interface, "netdev": interface, "script": path, "XENBUS_TYPE": "vif", "XENBUS_PATH": busPath,
                "XENBUS_BASE_PATH": "backend", "XENSTORED_PATH": storeSocket,
            ], ownGroup: true, output: errors)
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
