// causeway frontend vbd: a disk as its guest sees it, served to NBD clients.

import ArgumentParser
import CommandSupport
import LinuxSystem
import NBDServer
import Toolstack
import XenTypes

struct FrontendVbd: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "vbd", abstract: "Connects to a disk and serves it to NBD clients.",
        discussion: """
            Then, for example: qemu-img info 'nbd+unix:///?socket=SOCKET'

            For nbdkit's filters there is a plugin, which does the same: nbdkit libCausewayNBD.so --help.
            """)

    @OptionGroup var host: HostOptions
    @OptionGroup var loudness: QuietOption
    @OptionGroup var confinement: ConfinementOptions
    @OptionGroup var user: UserOptions
    @OptionGroup var features: BlockFeatures
    @Argument(help: "The disk, as it was attached: xvda, 51712.") var vdev: String
    @Option(
        help: ArgumentHelp(
            "Where: a path, at which a Unix socket is made, nbd+unix:///NAME?socket=PATH, or nbd://127.0.0.1[:PORT][/NAME].",
            discussion: "Port 0: any that is free. NAME is the export's, else the disk's; clients that name none get it, too.",
            valueName: "address"))
    var nbd: String
    @Option(help: "The domain that this frontend acts in.") var domain: UInt16 = 1
    @Flag(help: "Stands on this host's Xen; the domain is the one that this process runs in.") var xen = false
    @Option(
        help: "Pages that the queue offers for data, \(NBDServer.leastBufferPages) or more; on Xen xen_gntalloc.limit bounds them.")
    var bufferPages: Int?
    @Option(help: "How long the first connection to a backend may take, in seconds.") var timeout = 15
    /// The socket is there, and descriptor 3 listens on it; so `pair` starts it, which keeps the socket when this
    /// process dies.
    @Flag(help: .hidden) var listening = false
    /// Gets this process's number once clients are served; it is there, and empty, before.
    @Option(help: .hidden) var pidfile: String?

    func validate() throws {
        guard (1...3600).contains(timeout) else { throw ValidationError("--timeout: 1 to 3600, not \(timeout)") }
        guard VirtualDevice(vdev) != nil else { throw ValidationError("`\(vdev)` is no virtual device") }
        do throws(Failure) { _ = try NBDAddress(nbd) } catch { throw ValidationError(error.message ?? "--nbd: \(nbd)") }
        if let bufferPages, !(NBDServer.leastBufferPages...65536).contains(bufferPages) {
            throw ValidationError("--buffer-pages: \(NBDServer.leastBufferPages) to 65536, not \(bufferPages)")
        }
    }

    func run() throws {
        try host.followParent()
        Signals.block(Signals.termination)
        guard let device = VirtualDevice(vdev) else { throw Failure.usage("`\(vdev)` is no virtual device") }
        var options = features.frontendOptions
        options.notes = { note("frontend: \($0)") }
        options.depth = 256
        if let bufferPages { options.bufferPages = bufferPages }
        let address = try NBDAddress(nbd)
        let socket = try NBDSocket(address, name: device.name, isListening: listening)
        defer { socket.remove() }
        let role = try DiskServerRole(
            device: device.number, name: address.export ?? device.name, options: options, socket: socket, patience: timeout,
            polling: features.serverPolling, readyFile: pidfile)
        if xen { return try role.serveXen() }
        try role.serve(in: try host.directory(), domain: DomainID(domain)) { () throws(Failure) in
            try confinement.confine(.blockFrontend, as: user.range, adding: socket.rules)
        }
    }
}
