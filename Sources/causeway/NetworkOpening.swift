// What the backend gives a vif on this host's side: a tap, with the manners of Xen's vif scripts.

import Glibc
import HostDevices
import LinuxSystem
import NetworkBackend
import XenWire

/// Opens taps.
struct NetworkOpening: Sendable {
    /// Whether a tap stays when this process ends unexpectedly, so that its successor finds it in its bridge.
    let outlives: Bool
    /// The store's socket, for scripts that are called here; nil: somebody else calls them.
    let storeSocket: String?
    /// Cables between interfaces.
    private let links = NetworkLinks()

    init(outlives: Bool, storeSocket: String?) {
        self.outlives = outlives
        self.storeSocket = storeSocket
    }

    /// Devices without an interface, by the vif's name: `null` takes every frame and has none, `frames64` has one of 64 bytes whenever it is
    /// asked. For benchmarks.
    @Sendable static func openMemory(_ settings: NetworkSettings) throws(NetworkOpenFailure) -> any NetworkDevice {
        let name = settings.interface
        if name == "null" { return NullNetwork() }
        guard name.hasPrefix("frames"), let count = Int(name.dropFirst("frames".count)), (14...65535).contains(count) else {
            throw NetworkOpenFailure(number: ENODEV, "\(name): neither null nor frames and a size")
        }
        do throws(Errno) { return try EndlessNetwork(byteCount: count) } catch {
            throw NetworkOpenFailure(number: error.rawValue, "\(name): \(error)")
        }
    }

    /// Opens the vif's tap, or joins the one that is there; names what could not be done.
    @Sendable func open(_ settings: NetworkSettings) throws(NetworkOpenFailure) -> any NetworkDevice {
        if let peer = settings.peer {
            do throws(Errno) { return try links.end(of: "\(settings.device)", to: "\(peer)", mtu: settings.mtu) } catch {
                throw NetworkOpenFailure(
                    number: error.rawValue, error.rawValue == ELOOP ? "peer: an interface cannot be its own" : "cable to \(peer): \(error)")
            }
        }
        let name = settings.interface
        let tap: TapDevice
        do throws(DeviceError) { tap = try TapDevice(name: name, outlives: outlives) } catch {
            throw NetworkOpenFailure(number: EIO, "\(error)")
        }
        // Down first: a bridge must not see another address than the one that no bridge adopts (pv-protocols item 43).
        try Self.doing("tap \(name): its address") { () throws(Errno) in try HostInterface.setAddress(name, .backend) }
        try Self.doing("tap \(name): mtu \(settings.mtu)") { () throws(Errno) in try HostInterface.setMTU(name, settings.mtu) }
        if settings.isPlacedByScript { return tap }
        if let bridge = settings.bridge {
            try Self.doing("tap \(name): bridge \(bridge)") { () throws(Errno) in try HostInterface.join(name, bridge: bridge) }
        }
        try Self.doing("tap \(name): up") { () throws(Errno) in try HostInterface.setUp(name) }
        guard let socket = storeSocket, let script = VifScript(settings, storeSocket: socket) else { return tap }
        do throws(Failure) { try script.run("online") } catch { throw NetworkOpenFailure(number: EIO, "tap \(name): \(error.message ?? "")") }
        return ScriptedTap(tap, script)
    }

    private static func doing(_ what: String, _ body: () throws(Errno) -> Void) throws(NetworkOpenFailure) {
        do throws(Errno) { try body() } catch { throw NetworkOpenFailure(number: error.rawValue, "\(what): \(error)") }
    }
}
