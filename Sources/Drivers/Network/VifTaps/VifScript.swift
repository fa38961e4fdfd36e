// Scripts of xl's kind for interfaces: called with `online` when a tap is there and with `offline` when it is let go,
// told of the rest by variables and the store (Xen's docs/misc/vif-common.sh). On a loopback host the backend calls
// them, as xl does on Xen.

import Glibc
import LinuxSystem
import NetworkBackend
import XenBus

/// Why a script did not do what it was called for.
public enum VifScriptError: Error, Equatable, Sendable, CustomStringConvertible {
    /// There is no process of it.
    case notStarted(path: String, Errno)
    /// It ended otherwise than with status 0.
    case failed(path: String, action: String, ExitStatus)
    /// It had not ended in time, and was killed.
    case timedOut(path: String, action: String, seconds: Int)

    /// `/etc/xen/scripts/vif-route online: exited with status 1`.
    public var description: String {
        switch self {
        case .notStarted(let path, let reason): "\(path): cannot start it: \(reason)"
        case .failed(let path, let action, let status): "\(path) \(action): \(status)"
        case .timedOut(let path, let action, let seconds): "\(path) \(action): not done after \(seconds) s"
        }
    }
}

/// How to call one interface's script.
public struct VifScript: Sendable {
    /// The program.
    public let path: String
    let interface: String
    /// `backend/vif/1/0`, relative to the backend's domain as scripts expect it.
    let busPath: String
    let storeSocket: String
    /// How long a script may take.
    public static let seconds = 10

    /// The script at `path` for an interface of this name.
    public init(_ path: String, for interface: String, of device: DeviceID, storeSocket: String) {
        self.path = path
        self.interface = interface
        self.storeSocket = storeSocket
        busPath = "backend/vif/\(device)"
    }

    /// The script that `settings` names; nil for none, and for vif-bridge, which is built in.
    public init?(_ settings: NetworkSettings, storeSocket: String) {
        guard let path = settings.script, path.split(separator: "/").last != "vif-bridge" else { return nil }
        self.init(path, for: settings.interface, of: settings.device, storeSocket: storeSocket)
    }

    /// Calls it and waits for its end; what it prints goes to our stderr. In its environment are xl's variables and
    /// where the store is.
    /// - Parameters:
    ///   - action: `online` or `offline`.
    ///   - time: what its time limit goes by.
    public func run(_ action: String, time: some TimeSource) throws(VifScriptError) {
        let child: ChildProcess
        do throws(Errno) {
            let errors = Descriptor(owning: try retryingInterrupts { dup(2) })
            child = try ChildProcess.spawn(
                [path, action, "type_if=vif"],
                adding: [
                    "vif": interface, "netdev": interface, "script": path, "XENBUS_TYPE": "vif", "XENBUS_PATH": busPath,
                    "XENBUS_BASE_PATH": "backend", "XENSTORED_PATH": storeSocket,
                ], ownGroup: true, output: errors, time: time)
        } catch { throw .notStarted(path: path, error) }
        guard let status = child.wait(milliseconds: Self.seconds * 1000) else {
            child.stop(milliseconds: 500)
            throw .timedOut(path: path, action: action, seconds: Self.seconds)
        }
        guard status == .exited(0) else { throw .failed(path: path, action: action, status) }
    }
}
