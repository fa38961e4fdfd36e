// Disks and interfaces behind vhost-user sockets, without a Xen world: what `export` starts, and what it leaves.

import BlockBackend
import BlockDevices
import CommandSupport
import DeviceState
import DriverRuntime
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
    let server: VhostServer
    let device: VirtioDisk

    /// For `causeway device`.
    var control: VhostControl { VhostControl("\(specification.vdev)", server, device, time: SystemTime()) }

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
    private let trustsMemory: Bool

    /// With so many threads that serve the disks; they run.
    /// - Parameter trustsMemory: see `VhostSession`.
    init(in directory: PairDirectory, reactors count: Int, polling: PollingPolicy, trustsMemory: Bool) throws(Failure) {
        do throws(Failure) { reactors = try Self.startReactors("blk", count, polling) } catch {
            directory.remove()
            throw error
        }
        self.directory = directory
        self.trustsMemory = trustsMemory
    }

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
        for disk in disks { disk.server.stop() }
        for vif in vifs {
            vif.server.stop()
            vif.device.retire()
        }
        for reactor in reactors + interfaceReactors { reactor.stop() }
        taps.finish()
        directory.remove()
    }

    /// Opens a disk and listens for its front end.
    mutating func add(
        _ specification: DiskSpecification, at path: String, queues: Int, _ loudness: QuietOption
    ) throws(Failure) {
        let device = try open(specification, queues: queues)
        let server = try serve(device, at: path, isQuiet: loudness.quiet)
        disks.append(ExportedDisk(specification: specification, server: server, device: device))
    }

    /// Opens a disk and goes on where a predecessor has put it by. What cannot be had is said, and its front end is
    /// left to find out: the others' go on.
    /// - Parameter began: called once its front end is served, or cannot be. From any thread.
    mutating func resume(
        _ specification: DiskSpecification, _ left: ExportSuccession.Disk, _ descriptors: inout InheritedDescriptors, queues: Int,
        _ loudness: QuietOption, began: @escaping @Sendable () -> Void
    ) throws(Failure) {
        let listener = descriptors[left.listener]
        var handover: VhostHandover?
        do throws(DeviceStateError) { handover = try left.frontend?.handover(&descriptors) } catch {
            complain("export: \(specification.vdev): \(error); its front end has to connect anew")
        }
        let device = try open(specification, queues: queues)
        do throws(Errno) {
            let server = try VhostServer(
                path: left.path, listener: listener, device, trustsMemory: trustsMemory, resuming: handover, began: began,
                log: Self.log(loudness.quiet))
            disks.append(ExportedDisk(specification: specification, server: server, device: device))
        } catch { throw Failure("export: \(left.path): \(error)") }
    }

    private func open(_ specification: DiskSpecification, queues: Int) throws(Failure) -> VirtioDisk {
        var settings = DiskSettings(
            target: specification.target, isWritable: !specification.isReadOnly, isCDROM: specification.isCDROM,
            isDirectSafe: specification.isDirectIOSafe, discard: specification.discard)
        settings.isShared = specification.isShared
        let disk: any BlockDevice
        do throws(DeviceOpenFailure) {
            disk = try HostDiskOpener(time: .system, log: { complain("export: \($0)") }).open(settings)
        } catch { throw Failure("export: \(specification.vdev): \(error)") }
        return VirtioDisk(
            disk, on: reactors, queues: queues, identity: "\(specification.vdev)", offersDiscard: specification.offersDiscard
        ) { complain("export: \($0)") }
    }

    /// Listens for a device's front ends.
    func serve(_ device: any VhostDevice, at path: String, isQuiet: Bool) throws(Failure) -> VhostServer {
        do throws(Errno) {
            return try VhostServer(path: path, device, trustsMemory: trustsMemory, log: Self.log(isQuiet))
        } catch {
            throw Failure("export: \(path): \(error == .addressInUse ? "somebody listens there already" : "\(error)")")
        }
    }

    private static func log(_ isQuiet: Bool) -> @Sendable (String) -> Void {
        { line in if !isQuiet { complain("export: \(line)") } }
    }
}
