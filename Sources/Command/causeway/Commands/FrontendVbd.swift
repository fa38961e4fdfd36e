// causeway frontend vbd: a disk as its guest sees it, served to NBD clients. The process becomes nbdkit with our
// plugin, which holds the frontend driver; its command line still says what it is.

import ArgumentParser
import CommandSupport
import Glibc
import LinuxSystem
import Toolstack

struct FrontendVbd: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "vbd", abstract: "Connects to a disk and serves it to NBD clients on a Unix socket.",
        discussion: "Then, for example: qemu-img info 'nbd+unix:///?socket=SOCKET'")

    @OptionGroup var host: HostOptions
    @OptionGroup var loudness: QuietOption
    @OptionGroup var confinement: ConfinementOptions
    @OptionGroup var user: UserOptions
    @OptionGroup var features: BlockFeatures
    @Argument(help: "The disk, as it was attached: xvda, 51712.") var vdev: String
    @Option(help: "The socket to make.") var nbd: String
    @Option(help: "The domain that this frontend acts in.") var domain: UInt16 = 1
    @Option(help: "Requests of one NBD connection that are in flight at most.") var threads = 32
    @Flag(help: "Stands on this host's Xen; the domain is the one that this process runs in.") var xen = false
    @Option(help: "Pages that a queue offers for data; on Xen xen_gntalloc.limit bounds them.") var bufferPages: Int?
    @Flag(help: "nbdkit says what it does, on stderr.") var verbose = false
    /// The socket is there, and descriptor 3 listens on it; so `pair` starts it, which keeps the socket when this
    /// process dies.
    @Flag(help: .hidden) var listening = false
    /// Gets this process's number once clients are served.
    @Option(help: .hidden) var pidfile: String?

    func validate() throws {
        guard VirtualDevice(vdev) != nil else { throw ValidationError("`\(vdev)` is no virtual device") }
        guard nbd.utf8.count <= 107 else { throw ValidationError("--nbd: \(nbd): too long for a socket's path") }
        guard (1...256).contains(threads) else { throw ValidationError("--threads: 1 to 256, not \(threads)") }
    }

    func run() throws {
        // Kept across exec: nbdkit ends with the process that started this one.
        try host.followParent()
        guard let device = VirtualDevice(vdev) else { throw Failure.usage("`\(vdev)` is no virtual device") }
        var arguments = ["causeway frontend vbd \(vdev)", "--foreground", "--threads", "\(threads)"]
        if !listening {
            try claimSocket()
            arguments += ["--unix", nbd]
        }
        if let pidfile { arguments += ["--pidfile", pidfile] }
        if verbose { arguments.append("--verbose") }
        // Clients may write bytes; a disk has sectors. Parts of sectors are read, changed and written by the filter.
        arguments.append("--filter=blocksize")
        arguments += [try Executable.plugin(), "vdev=\(device.number)"]
        arguments += xen ? ["xen=1"] : ["run-dir=\(try host.directory())", "domain=\(domain)"]
        if !xen { arguments += confined }
        if loudness.quiet { arguments.append("quiet=1") }
        if let bufferPages { arguments.append("buffer-pages=\(bufferPages)") }
        // nbdkit takes a socket as systemd gives it (sd_listen_fds(3)).
        let socket = listening ? ["LISTEN_FDS": "1", "LISTEN_PID": "\(getpid())"] : [:]
        let reason = ChildProcess.replace(program: "nbdkit", arguments: arguments + features.pluginParameters, adding: socket)
        throw Failure("nbdkit: cannot run it: \(reason)")
    }

    /// The plugin gives up what it does not need once nbdkit has opened everything.
    private var confined: [String] {
        if confinement.noConfinement {
            complain("frontend: \(ConfinementOptions.warning)")
            return []
        }
        let directory = nbd.lastIndex(of: "/").map { $0 == nbd.startIndex ? "/" : String(nbd[..<$0]) } ?? "."
        // nbdkit removes a socket that it has made.
        return ["confined=\(user.range.map { "\($0)" } ?? "1")"] + (listening ? [] : ["removes=\(directory)"])
    }

    /// Makes room where nbdkit is to bind: it takes the place of nothing, and does not say whose it is.
    private func claimSocket() throws(Failure) {
        if let holder = StreamSocket.listeningHolder(at: nbd) { throw Failure("frontend: --nbd: \(nbd): \(holder) listens there") }
        // One that a killed frontend left behind, or that another has bound by another name.
        if FileSystem.isSocket(nbd) {
            if StreamSocket.accepts(at: nbd) { throw Failure("frontend: --nbd: \(nbd): another process listens there") }
            FileSystem.remove(nbd)
        }
        if FileSystem.exists(nbd) { throw Failure("frontend: --nbd: \(nbd): is there, and is no socket") }
        let directory = nbd.lastIndex(of: "/").map { $0 == nbd.startIndex ? "/" : String(nbd[..<$0]) } ?? "."
        do throws(Errno) { _ = try FileSystem.kind(of: directory) } catch {
            throw Failure("frontend: --nbd: \(directory): \(error)")
        }
    }
}
