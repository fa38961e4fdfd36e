// A backend's devices behind vhost-user sockets, too: `backend --vhost-user`. Each is whoever's came first, its Xen
// frontend's or a vhost-user front end's, until that one lets it go.

import BlockDevices
import CommandSupport
import DeviceControl
import DeviceState
import DriverRuntime
import LinuxSystem
import NetworkDevices
import Reactor
import Synchronization
import VhostUser
import VirtioBlock
import VirtioNetwork
import XenBus

/// The sockets of one backend.
final class VhostExports: Sendable {
    private let directory: String
    private let isQuiet: Bool
    private let threads: Int
    private let state = Mutex(State())

    private struct State {
        var served: [Key: Served] = [:]
        var uses: [Key: DeviceUse] = [:]
        var reactors: [String: [Reactor]] = [:]
    }

    private struct Key: Hashable {
        let kind: DeviceState.Kind
        let device: DeviceID
    }

    private struct Served {
        let server: VhostServer
        let device: any VhostDevice
    }

    /// - Parameter threads: for each kind of device, once there is one.
    init(in directory: String, threads: Int, isQuiet: Bool) throws(Failure) {
        guard directory.utf8.count <= 80 else { throw .usage("--vhost-user: \(directory): too long for a socket's path") }
        FileSystem.makeDirectory(directory, mode: 0o700)
        self.directory = directory
        self.threads = threads
        self.isQuiet = isQuiet
    }

    /// Where a device's socket is.
    static func path(of device: DeviceID, in directory: String) -> String {
        "\(directory)/\(device.frontend)-\(device.number).sock"
    }

    /// For `causeway device`.
    var controlled: [any ControlledDevice] {
        state.withLock { $0.served }.sorted { "\($0.key.device)" < "\($1.key.device)" }.map { key, served in
            VhostControl("vhost-\(key.device)", served.server, served.device, time: SystemTime())
        }
    }

    /// Lets every front end go.
    func stop() {
        let (served, reactors) = state.withLock { state in
            defer { (state.served, state.reactors) = ([:], [:]) }
            return (state.served, state.reactors)
        }
        for one in served.values { one.server.stop() }
        for reactor in reactors.values.joined() { reactor.stop() }
    }

    // MARK: Devices that come and go

    private func use(_ key: Key) -> DeviceUse {
        state.withLock { state in
            if let use = state.uses[key] { return use }
            let use = DeviceUse()
            state.uses[key] = use
            return use
        }
    }

    /// Serves a device, in the place of what was there before.
    private func serve(_ key: Key, _ make: ([Reactor]) -> (any VhostDevice)?) {
        let before = state.withLock { $0.served.removeValue(forKey: key) }
        before?.server.stop()
        do throws(Failure) {
            guard let device = make(try reactors(key.kind)) else { return }
            let path = Self.path(of: key.device, in: directory)
            let (isQuiet, use) = (isQuiet, use(key))
            let exclusive = ExclusiveVhostDevice(device) {
                use.take(for: .exported) ? nil : "\(Errno.busy): a frontend of Xen's uses the device"
            } letGo: {
                use.release(by: .exported)
            }
            let server: VhostServer
            do throws(Errno) {
                server = try VhostServer(path: path, exclusive) { line in if !isQuiet { complain("backend: \(line)") } }
            } catch { throw Failure("\(path): \(error == .addressInUse ? "somebody listens there already" : "\(error)")") }
            state.withLock { $0.served[key] = Served(server: server, device: device) }
        } catch { complain("backend: --vhost-user: \(key.device): \(error)") }
    }

    private func reactors(_ kind: DeviceState.Kind) throws(Failure) -> [Reactor] {
        let name = kind == .block ? "vblk" : "vnet"
        if let there = state.withLock({ $0.reactors[name] }) { return there }
        let made = try ExportSession.startReactors(name, threads, kind == .block ? .adaptive(microseconds: 50) : .onHost)
        state.withLock { $0.reactors[name] = made }
        return made
    }

    /// The disks' part.
    struct Disks: DeviceExporter {
        let exports: VhostExports

        func changed(_ id: DeviceID, _ device: (any BlockDevice)?) {
            exports.serve(Key(kind: .block, device: id)) { reactors in
                device.map { disk in
                    VirtioDisk(disk, on: reactors, queues: reactors.count, identity: "\(id)") { complain("backend: \($0)") }
                }
            }
        }

        func use(of id: DeviceID) -> DeviceUse { exports.use(Key(kind: .block, device: id)) }
    }

    /// The interfaces' part.
    struct Interfaces: DeviceExporter {
        let exports: VhostExports

        func changed(_ id: DeviceID, _ device: (any NetworkDevice)?) {
            exports.serve(Key(kind: .network, device: id)) { reactors in
                device.map { network in
                    VirtioInterface(network, name: "vif \(id)", on: reactors, queues: 1) { complain("backend: \($0)") }
                }
            }
        }

        func use(of id: DeviceID) -> DeviceUse { exports.use(Key(kind: .network, device: id)) }
    }
}
