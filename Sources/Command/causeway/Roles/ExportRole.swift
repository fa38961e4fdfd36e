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
    var control: VhostControl? { server.map { VhostControl("\(specification.vdev)", $0, device, time: SystemTime()) } }

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
    let trustsMemory: Bool
    /// Whether front ends listen, and this side comes to them.
    let isClient: Bool
    /// Who keeps what outlives this process; nil: nobody.
    let keeper: KeeperLink?

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
        self.trustsMemory = trustsMemory
        self.keeper = keeper
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
    mutating func add(
        _ specification: DiskSpecification, at meeting: ExportPlace, queues: Int, _ loudness: QuietOption
    ) throws(Failure) {
        let device = try open(specification, queues: queues)
        let place = try serve(device, "\(specification.vdev)", at: meeting, isQuiet: loudness.quiet)
        disks.append(ExportedDisk(specification: specification, place: place, device: device))
    }

    /// Opens a disk and goes on where a predecessor has put it by, or was killed.
    /// - Parameter began: called once its front end is served, or cannot be. From any thread.
    mutating func resume(
        _ specification: DiskSpecification, _ left: ExportSuccession.Device, _ descriptors: inout InheritedDescriptors,
        queues: Int, _ loudness: QuietOption, began: @escaping @Sendable () -> Void
    ) throws(Failure) {
        let device = try open(specification, queues: queues, isTakenOver: true)
        let server = try resume(device, left, &descriptors, nil, isQuiet: loudness.quiet, began)
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
            disk = try HostDiskOpener(time: .system, log: { complain("export: \($0)") }).open(settings)
        } catch { throw Failure("export: \(specification.vdev): \(error)") }
        return VirtioDisk(
            disk, on: reactors, queues: queues, identity: "\(specification.vdev)", offersDiscard: specification.offersDiscard
        ) { complain("export: \($0)") }
    }

    /// Listens for a device's front ends, or comes to them.
    func serve(
        _ device: any VhostDevice, _ name: String, at meeting: ExportPlace, isQuiet: Bool,
        _ behind: ExportedDevice.Behind? = nil
    ) throws(Failure) -> any VhostPlace {
        let path = meeting.path
        let kept = try keeper.map { (link) throws(Failure) in try KeptDevice(name, at: path, behind, link) }
        do throws(Errno) {
            let log = Self.log(isQuiet)
            switch meeting {
            case .path where isClient: return try VhostClient(path: path, device, trustsMemory: trustsMemory, log: log)
            case .path:
                let server = try VhostServer(path: path, device, trustsMemory: trustsMemory, keeper: kept, log: log)
                kept?.listens(server.listener)
                return server
            case .listener(let listener):
                return try VhostServer(
                    path: path, listener: listener, device, trustsMemory: trustsMemory, resuming: nil, log: log)
            case .frontend(let socket):
                // Nobody else can ever come.
                return try VhostClient(
                    path: path, connected: socket, device, trustsMemory: trustsMemory, ended: { Signals.raise(SIGTERM) }, log: log)
            }
        } catch {
            throw Failure("export: \(path): \(error == .addressInUse ? "somebody listens there already" : "\(error)")")
        }
    }

    /// Goes on where a predecessor listened, with its front end if that can be. What cannot be had is said, and its
    /// front end is left to find out: the others' go on.
    func resume(
        _ device: any VhostDevice, _ left: ExportSuccession.Device, _ descriptors: inout InheritedDescriptors,
        _ behind: ExportedDevice.Behind?, isQuiet: Bool, _ began: @escaping @Sendable () -> Void
    ) throws(Failure) -> VhostServer {
        let listener = try listener(left, &descriptors)
        var handover: VhostHandover?
        if let frontend = left.frontend {
            do throws(DeviceStateError) {
                handover = try frontend.handover(&descriptors, wasKilled: keeper != nil)
                if handover == nil {
                    complain("export: \(left.name): its front end has not come along whole; it has to connect anew")
                }
            } catch { complain("export: \(left.name): \(error); its front end has to connect anew") }
        }
        // Else it could end one process after another.
        if keeper?.signal == SIGBUS, handover?.hasMemoryThatMayShrink == true {
            complain("export: \(left.name): its front end may have ended the process before, by memory that it can make shorter")
            handover = nil
        }
        let kept = try keeper.map { (link) throws(Failure) in try KeptDevice(left.name, at: left.path, behind, link) }
        kept?.listens(listener)
        if handover == nil {
            // What the predecessor held for a front end that cannot be gone on with is let go.
            if left.frontend != nil { device.take([]) }
            device.resumed()
            kept?.ended()
        }
        do throws(Errno) {
            return try VhostServer(
                path: left.path, listener: listener, device, trustsMemory: trustsMemory, keeper: kept, resuming: handover,
                began: began, log: Self.log(isQuiet))
        } catch { throw Failure("export: \(left.path): \(error)") }
    }

    /// Where a predecessor listened. One that has ended in good order has taken the place away.
    private func listener(
        _ left: ExportSuccession.Device, _ descriptors: inout InheritedDescriptors
    ) throws(Failure) -> Descriptor {
        if FileSystem.isSocket(left.path), let listener = descriptors[left.listener] { return listener }
        do throws(Errno) { return try StreamSocket.listen(path: left.path, backlog: 16, blocks: true) } catch {
            throw Failure("export: \(left.name): \(left.path): \(error)")
        }
    }

    private static func log(_ isQuiet: Bool) -> @Sendable (String) -> Void {
        { line in if !isQuiet { complain("export: \(line)") } }
    }
}
