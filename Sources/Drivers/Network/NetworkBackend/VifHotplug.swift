// What a hot-plug script of xl's left in a vif's directory (Xen's docs/misc/vif-common.sh): whether the interface is
// where it belongs.

import XenBus
import XenStore

/// How far the script of an interface is.
enum VifHotplug: Equatable, Sendable {
    /// Nobody runs one.
    case none
    /// It has not ended yet.
    case running
    /// It has put the interface in its place.
    case done
    /// It says why not.
    case failed(String)

    /// Reads the nodes in the backend's directory `path`.
    static func read(from store: some StoreAccess, at path: String) throws(XenbusError) -> VifHotplug {
        guard let script = try store.text("\(path)/script"), !script.isEmpty else { return .none }
        switch try store.text("\(path)/hotplug-status") {
        case nil, "": return .running
        case "connected": return .done
        case "error":
            return .failed(try store.text("\(path)/hotplug-error") ?? "it gives no reason")
        case let status?: return .failed("hotplug-status is \(StoreNumber.quote(status))")
        }
    }
}
