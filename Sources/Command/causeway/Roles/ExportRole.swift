// Disks and interfaces behind vhost-user sockets, without a Xen world: what `export` starts, and what it leaves.

import BlockBackend
import BlockDevices
import CommandSupport
import DeviceState
import DriverRuntime
import Glibc
import LinuxSystem
import NetworkDevices
import Reactor
import Toolstack
import VhostUser
import VifTaps
import VirtioBlock

/// One disk and its socket.
struct ExportedDisk {
    let specification: DiskSpecification
    let place: any VhostPlace
    let device: VirtioDisk

    /// What front ends come to; nil: they listen themselves.
    var server: VhostServer? { place as? VhostServer }
    /// For `causeway device`.
    var control: VhostControl { VhostControl("\(specification.vdev)", place, device, time: SystemTime()) }

    /// For whoever takes it over.
    var served: ExportedDevice? { server.map { ExportedDevice(name: "\(specification.vdev)", server: $0) } }

    /// As COMMAND's environment names it.
    var variable: String { "CAUSEWAY_VHOST_\(specification.vdev)" }
}

/// What is exported, from its start to its end.
struct ExportSession: ~Copyable {
    /// Where sockets are that were not named; claimed, so that nobody else makes his there.
    let directory: PairDirectory
    private let reactors: [Reactor]
    private(set) var disks: [ExportedDisk] = []
    /// The threads of the interfaces, once there is one.
    var interfaceReactors: [Reactor] = []
    var vifs: [ExportedVif] = []
    let taps = TapOpener(keepsTaps: false, time: .system) { complain("export: \($0)") }
    let links = NetworkLinks()
    /// How front ends come to the devices.
    let places: FrontendPlaces
    /// Whether front ends listen, and this side comes to them.
    let isClient: Bool
    /// Who keeps what outlives this process; nil: nobody.
    let keeper: KeeperLink?
    /// The part of it that NVMe controllers have.
    private let controllers: KeptControllers?

    /// With so many threads that serve the disks; they run.
    /// - Parameter trustsMemory: see `VhostSession`.
    init(
        in directory: PairDirectory, reactors count: Int, polling: PollingPolicy, trustsMemory: Bool, isClient: Bool,
        keeper: KeeperLink?
    ) throws(Failure) {
        let reactors: [Reactor]
        do throws(Failure) {
            reactors = try Self.startReactors("blk", count, polling)
            do throws(Failure) { try keeper?.waitForPredecessor(reactors) } catch {
                for reactor in reactors { reactor.stop() }
                throw error
            }
        } catch {
            directory.remove()
            throw error
        }
        self.reactors = reactors
        self.directory = directory
        places = FrontendPlaces(user: "export", trustsMemory: trustsMemory)
        self.keeper = keeper
        controllers = keeper.map { KeptControllers($0) }
        self.isClient = isClient
    }

    /// All devices, in their order.
    var served: [ExportedDevice] { disks.compactMap(\.served) + vifs.compactMap(\.served) }

    static func startReactors(_ name: String, _ count: Int, _ polling: PollingPolicy) throws(Failure) -> [Reactor] {
        var reactors: [Reactor] = []
        do throws(Errno) {
            for index in 0..<count { reactors.append(try Reactor(name: "\(name)-\(index)", time: .system, polling: polling)) }
        } catch { throw Failure("export: io_uring: \(error); is it allowed here (kernel.io_uring_disabled)?") }
        do throws(ReactorError) { for reactor in reactors { try reactor.start() } } catch {
            for reactor in reactors { reactor.stop() }
            throw Failure("export: \(error)")
        }
        return reactors
    }

    deinit {
        for disk in disks { disk.place.stop() }
        for vif in vifs {
            vif.place.stop()
            vif.device.retire()
        }
        for reactor in reactors + interfaceReactors { reactor.stop() }
        taps.finish()
        directory.remove()
    }

    /// Opens a disk and listens for its front end.
    mutating func add(_ specification: DiskSpecification, at meeting: ExportPlace, queues: Int) throws(Failure) {
        let device = try open(specification, queues: queues)
        let place = try serve(device, "\(specification.vdev)", at: meeting)
        disks.append(ExportedDisk(specification: specification, place: place, device: device))
    }

    /// Opens a disk and goes on where a predecessor has put it by, or was killed.
    /// - Parameter began: called once its front end is served, or cannot be. From any thread.
    mutating func resume(
        _ specification: DiskSpecification, _ left: LeftDevice, queues: Int, began: @escaping @Sendable () -> Void
    ) throws(Failure) {
        let device = try open(specification, queues: queues, isTakenOver: true)
        let server = try places.resume(device, left, try kept(left.name, at: left.path, nil), began: began).server
        disks.append(ExportedDisk(specification: specification, place: server, device: device))
    }

    /// - Parameter isTakenOver: whether a predecessor had it: nobody else is looked for.
    private func open(
        _ specification: DiskSpecification, queues: Int, isTakenOver: Bool = false
    ) throws(Failure) -> VirtioDisk {
        var settings = DiskSettings(
            target: specification.target, isWritable: !specification.isReadOnly, isCDROM: specification.isCDROM,
            isDirectSafe: specification.isDirectIOSafe, discard: specification.discard)
        settings.isShared = specification.isShared
        settings.isTakenOver = isTakenOver
        let disk: any BlockDevice
        do throws(DeviceOpenFailure) {
            disk = try HostDiskOpener(keeper: controllers, time: .system, log: { complain("export: \($0)") }).open(settings)
        } catch { throw Failure("export: \(specification.vdev): \(error)") }
        return VirtioDisk(
            disk, on: reactors, queues: queues, identity: "\(specification.vdev)", offersDiscard: specification.offersDiscard
        ) { complain("export: \($0)") }
    }

    /// What keeps a device beyond this process; nil: nobody does.
    func kept(_ name: String, at path: String, _ behind: ExportedDevice.Behind?) throws(Failure) -> KeptDevice? {
        try keeper.map { (link) throws(Failure) in try KeptDevice(name, at: path, behind, link) }
    }

    /// Listens for a device's front ends, or comes to them.
    func serve(
        _ device: any VhostDevice, _ name: String, at meeting: ExportPlace, _ behind: ExportedDevice.Behind? = nil
    ) throws(Failure) -> any VhostPlace {
        switch meeting {
        case .path(let path) where isClient: return try places.client(of: device, at: path)
        case .path(let path): return try places.listen(device, at: path, try kept(name, at: path, behind))
        case .listener(let listener): return try places.listen(device, by: listener, meeting.path)
        case .frontend(let socket):
            // Nobody else can ever come.
            return try places.client(of: device, by: socket, meeting.path) { Signals.raise(SIGTERM) }
        }
    }
}
