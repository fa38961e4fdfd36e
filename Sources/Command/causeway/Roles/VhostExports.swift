// A backend's devices behind vhost-user sockets, too: `backend --vhost-user`. Each is whoever's came first, its Xen
// frontend's or a vhost-user front end's, until that one lets it go. Front ends of a process or program before this one
// are gone on with, each when its device is there again.

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
    private let threads: Int
    private let places: FrontendPlaces
    /// Who keeps what outlives this process; nil: nobody.
    let keeper: KeeperLink?
    private let state = Mutex(State())
    /// What the process or program before this one has left.
    private let predecessor: Mutex<ExportPredecessor>

    private struct State {
        var served: [Key: Served] = [:]
        var uses: [Key: DeviceUse] = [:]
        var reactors: [String: [Reactor]] = [:]
        /// What was not gone on with by then is nobody's any more.
        var isSettled = false
        /// What keeps devices for a planned end that are not kept else.
        var whileUpgrading: [KeptDevice] = []
    }

    struct Key: Hashable {
        let kind: DeviceState.Kind
        let device: DeviceID

        /// As messages name it, and a successor finds it.
        var name: String { "\(kind == .block ? "vbd" : "vif") \(device)" }
    }

    private struct Served {
        let server: VhostServer
        let device: any VhostDevice
        let behind: ExportedDevice.Behind?
        /// nil: it is not kept.
        let kept: KeptDevice?

        /// There is no such device any more.
        func end() {
            server.stop()
            kept?.retire()
        }
    }

    /// - Parameter threads: for each kind of device, once there is one.
    init(
        in directory: String, threads: Int, _ predecessor: ExportPredecessor, _ keeper: KeeperLink?
    ) throws(Failure) {
        guard directory.utf8.count <= 80 else { throw .usage("--vhost-user: \(directory): too long for a socket's path") }
        FileSystem.makeDirectory(directory, mode: 0o700)
        self.directory = directory
        self.threads = threads
        self.keeper = keeper
        self.predecessor = Mutex(predecessor)
        places = FrontendPlaces(user: "backend")
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
    /// - Parameter isKept: whether the next process may go on with it if this one is killed.
    private func serve(
        _ key: Key, _ behind: ExportedDevice.Behind?, isKept: Bool = true, _ make: ([Reactor]) -> (any VhostDevice)?
    ) {
        let before = state.withLock { $0.served.removeValue(forKey: key) }
        before?.end()
        do throws(Failure) {
            guard let device = make(try reactors(key.kind)) else { return }
            let use = use(key)
            let exclusive = ExclusiveVhostDevice(device) {
                use.take(for: .exported) ? nil : "\(Errno.busy): a frontend of Xen's uses the device"
            } letGo: {
                use.release(by: .exported)
            }
            let left = predecessor.withLock { $0.take(key.name) }
            let path = left?.path ?? Self.path(of: key.device, in: directory)
            let kept = isKept ? try self.kept(key.name, at: path, behind) : nil
            let server: VhostServer
            if let left {
                server = try resume(exclusive, left, kept, use)
            } else {
                server = try places.listen(exclusive, at: path, kept)
            }
            state.withLock { $0.served[key] = Served(server: server, device: device, behind: behind, kept: kept) }
        } catch { complain("backend: --vhost-user: \(key.device): \(error)") }
        settleKeeper()
    }

    private func kept(_ name: String, at path: String, _ behind: ExportedDevice.Behind?) throws(Failure) -> KeptDevice? {
        guard let keeper else { return nil }
        if let known = predecessor.withLock({ $0.keeper(of: name) }) {
            known.stands(before: behind)
            return known
        }
        return try KeptDevice(name, at: path, behind, keeper)
    }

    private func resume(
        _ device: ExclusiveVhostDevice, _ found: LeftDevice, _ kept: KeptDevice?, _ use: DeviceUse
    ) throws(Failure) -> VhostServer {
        var left = found
        // It is its front end's from here on, and not only from when that one's rings run.
        if case .whole(let handover) = left.session, handover.hasRings, !use.take(for: .exported) {
            left.session = .lost("a frontend of Xen's uses the device; its front end has to connect anew")
        }
        // Where the next process may not go on, the predecessor's record is not to tell it otherwise.
        if kept == nil { keeper?.devices[left.name]?.isInMessage = true }
        let report = predecessor.withLock(\.report)
        report.expectOneMore()
        do throws(Failure) {
            let (server, hasFrontend) = try places.resume(device, left, kept, isShared: true) { [self] in
                report.began()
                settleKeeper()
            }
            if !hasFrontend { use.release(by: .exported) }
            return server
        } catch {
            use.release(by: .exported)
            report.began()
            throw error
        }
    }

    private func reactors(_ kind: DeviceState.Kind) throws(Failure) -> [Reactor] {
        let name = kind == .block ? "vblk" : "vnet"
        if let there = state.withLock({ $0.reactors[name] }) { return there }
        let made = try ExportSession.startReactors(name, threads, kind == .block ? .adaptive(microseconds: 50) : .onHost)
        if kind == .block {
            do throws(Failure) { try keeper?.waitForPredecessor(made) } catch {
                for reactor in made { reactor.stop() }
                throw error
            }
        }
        state.withLock { $0.reactors[name] = made }
        return made
    }

    // MARK: Predecessors and successors

    /// Whether a predecessor served a device, and nobody has gone on with it yet.
    private func isLeft(_ key: Key) -> Bool { predecessor.withLock { $0.has(key.name) } }

    /// What an interface lives on that a predecessor had; nil: it is opened anew.
    func lifeline(of device: DeviceID, named name: String) -> [Descriptor]? {
        predecessor.withLock { $0.lifeline(of: Key(kind: .network, device: device).name, named: name) }
    }

    /// All devices that there are have been looked at: of those whose directories are gone nothing is gone on with.
    /// Others' may be opened later.
    func settle(but living: Set<Key>) {
        let names = Set(living.map(\.name))
        let gone = predecessor.withLock { predecessor in
            predecessor.rest.filter { !names.contains($0.name) }.compactMap { predecessor.take($0.name) }
        }
        for left in gone { FileSystem.remove(left.path) }
        state.withLock { $0.isSettled = true }
        guard let keeper else { return }
        predecessor.withLock(\.report).whenAllBegan { [self] in
            settleKeeper()
            keeper.ready([:])
        }
    }

    /// Has the keeper drop what nobody goes on with, once that is known.
    private func settleKeeper() {
        guard let keeper, state.withLock(\.isSettled), predecessor.withLock({ $0.rest.isEmpty && $0.report.isOver }) else { return }
        keeper.settle()
    }

    /// Begins to put every front end by, without waiting.
    func askToHold() { for one in state.withLock({ $0.served.values }) { one.server.askToHold() } }

    /// Puts every front end by: what a successor needs. Nothing is served from here on.
    func hold() -> [LeftDevice] {
        let served = state.withLock { $0.served }
        var left = predecessor.withLock(\.rest)
        for (key, one) in served {
            let handover = one.server.hold()
            let device = ExportedDevice(name: key.name, server: one.server, vif: one.behind)
            left.append(LeftDevice(device, handover))
            if let kept = one.kept { kept.refresh() } else { keepForUpgrade(device, handover) }
        }
        return left
    }

    /// What must not be gone on with after a kill may be after a planned end: nothing of it is under way.
    private func keepForUpgrade(_ device: ExportedDevice, _ handover: VhostHandover?) {
        guard let keeper else { return }
        do throws(Failure) {
            let kept = try KeptDevice(device.name, at: device.server.path, device.vif, keeper)
            kept.listens(device.server.listener)
            if let handover { kept.began(handover) }
            state.withLock { $0.whileUpgrading.append(kept) }
        } catch { complain("backend: \(device.name): \(error)") }
    }

    /// After `hold`, where there is no successor after all: lets go of devices and threads, so that they can be had
    /// anew, here.
    /// - Returns: what keeps each device.
    func letGo() -> [String: KeptDevice] {
        let (served, reactors) = state.withLock { state in
            defer { (state.served, state.reactors) = ([:], [:]) }
            return (state.served, state.reactors)
        }
        for reactor in reactors.values.joined() { reactor.stop() }
        for kept in state.withLock({ $0.whileUpgrading }) { kept.retire() }
        return Dictionary(served.compactMap { key, one in one.kept.map { (key.name, $0) } }) { first, _ in first }
    }

    /// The disks' part.
    struct Disks: DeviceExporter {
        let exports: VhostExports

        func changed(_ id: DeviceID, _ device: (any BlockDevice)?) {
            let key = Key(kind: .block, device: id)
            let mayComeLate = device is NBDDisk && device?.geometry.isReadOnly == false
            if mayComeLate, exports.keeper != nil {
                complain("backend: \(key.name): its front end would not outlive this process: \(KeptDevice.whyNoWritableNBD)")
            }
            exports.serve(key, nil, isKept: !mayComeLate) { reactors in
                device.map { disk in
                    VirtioDisk(disk, on: reactors, queues: reactors.count, identity: "\(id)") { complain("backend: \($0)") }
                }
            }
        }

        func use(of id: DeviceID) -> DeviceUse { exports.use(Key(kind: .block, device: id)) }
        func isLeft(_ id: DeviceID) -> Bool { exports.isLeft(Key(kind: .block, device: id)) }
    }

    /// The interfaces' part.
    struct Interfaces: DeviceExporter {
        let exports: VhostExports

        func changed(_ id: DeviceID, _ device: (any NetworkDevice)?) {
            let behind = device.map { ExportedDevice.Behind(mac: nil, tap: $0.name, device: $0) }
            exports.serve(Key(kind: .network, device: id), behind) { reactors in
                device.map { network in
                    VirtioInterface(network, name: "vif \(id)", on: reactors, queues: 1) { complain("backend: \($0)") }
                }
            }
        }

        func use(of id: DeviceID) -> DeviceUse { exports.use(Key(kind: .network, device: id)) }
        func isLeft(_ id: DeviceID) -> Bool { exports.isLeft(Key(kind: .network, device: id)) }
    }
}
