// What a disk's frontend process does: the frontend driver, and an NBD server on its first queue.

import BlockFrontend
import CommandSupport
import Glibc
import Hypervisor
import Libxen
import LinuxSystem
import Loopback
import NBDServer
import Reactor
import XenTypes

struct DiskServerRole {
    /// How long clients are waited for at the end, in milliseconds.
    private static let farewell = 1000

    private let device: UInt32
    private let name: String
    private var options: BlockFrontendOptions
    private let socket: NBDSocket
    /// How long the first connection may take, in seconds.
    private let patience: Int
    private let reactor: Reactor
    /// Gets this process's number once clients are served.
    private let ready: Descriptor?

    /// Makes what takes a right, or a file: before the process gives them up, and while it has one thread.
    init(
        device: UInt32, name: String, options: BlockFrontendOptions, socket: NBDSocket, patience: Int,
        polling: PollingPolicy, readyFile: String?
    ) throws(Failure) {
        self.device = device
        self.name = name
        self.options = options
        self.socket = socket
        self.patience = patience
        do throws(Errno) {
            reactor = try Reactor(name: "nbd-\(name)", time: SystemTime(), polling: polling)
            ready = try readyFile.map { path throws(Errno) in try Descriptor.open(path, O_WRONLY | O_CREAT | O_TRUNC) }
        } catch { throw Failure("frontend: \(name): \(error)") }
    }

    /// Serves until the process is asked to end, or the disk is gone.
    /// - Parameter confine: as an interface's frontend has it.
    func serve(in directory: RunDirectory, domain: DomainID, confine: () throws(Failure) -> String?) throws(Failure) {
        let claim = try FrontendRole.claim(
            "\(directory)/frontend-\(domain)-vbd-\(device).lock", "vbd \(device) of domain \(domain)")
        defer { withExtendedLifetime(claim) {} }
        let socket = try refusing("frontend") { () throws(HypervisorError) in
            try LoopbackHypervisor.openSocket(runDirectory: directory.path)
        }
        // A confined process makes no sockets.
        let place = DeviceSocket.Place(of: .front, in: directory.path)
        let confined = try confine()
        let hypervisor = try refusing("frontend") { () throws(HypervisorError) in
            try LoopbackHypervisor(connected: socket, domain: domain, time: .system)
        }
        defer { hypervisor.disconnect() }
        var role = self
        role.options.takesFaults = true
        try role.serve(on: hypervisor, confined, place)
    }

    /// The same for a disk of the domain that this process runs in, on the Xen below.
    func serveXen() throws(Failure) {
        try serve(
            on: try refusing("frontend: --xen") { () throws(HypervisorError) in try LibxenHypervisor(time: .system) }, nil, nil)
    }

    /// - Parameter place: where `causeway fault` finds this process.
    private func serve<H: Hypervisor>(on hypervisor: H, _ confined: String?, _ place: DeviceSocket.Place?) throws(Failure) {
        let end = Monitor<End?>(nil)
        let frontend: BlockFrontend<H>
        let server: NBDServer
        do {
            frontend = try BlockFrontend(
                hypervisor: hypervisor, device: device, options: options, log: { complain("frontend: \($0)") },
                ended: { error in end.change { $0 = $0 ?? .lost(error) } })
            try onTermination { end.change { $0 = $0 ?? .asked } }
            try frontend.connect(timeoutMilliseconds: Int32(clamping: patience * 1000))
            var served = NBDServer.Options()
            served.name = name
            served.description = "vbd \(device) of domain \(hypervisor.domain)"
            served.used = { isUsed in if isUsed { frontend.beginUse() } else { frontend.endUse() } }
            server = NBDServer(on: reactor, served)
            let queue = try frontend.takeQueue(0)
            try server.start(queue, [socket.listener])
        } catch let error as Failure { throw error } catch { throw Failure("frontend: \(error)") }
        let control = place.flatMap { place in
            DeviceSocket(at: place, removing: false) {
                [ControlledFrontend(frontend, in: hypervisor.domain)]
            }
        }
        defer { control?.close() }
        try? ready?.writeAll(Array("\(getpid())\n".utf8))
        if !socket.isGiven { note("frontend: \(name): \(socket.uri)") }
        // What is as it should be is of interest where there is a disk.
        if let confined { note(confined) }
        let reason = end.wait { $0 } ?? .asked
        server.stop(milliseconds: reason.isLost ? 0 : Self.farewell)
        frontend.close()
        // Why is in the log already.
        if case .lost(let error) = reason, error != .removed { throw .silent(1) }
    }

    private enum End {
        case asked
        case lost(BlockFrontendError)

        var isLost: Bool { if case .lost = self { true } else { false } }
    }
}
