// One disk of a pair: its guest, its frontend process, its place in the store, the socket that its clients know.

import LinuxSystem
import Toolstack
import XenBus
import XenTypes

struct PairedDisk {
    let specification: DiskSpecification
    let domain: DomainID
    let paths: DevicePaths
    /// The NBD socket.
    let socket: String
    /// Listens on it as long as there is the disk: a client that connects while there is no frontend waits for the
    /// next.
    var listener: Descriptor?
    /// Nil while there is none: before the next start, or for good.
    var frontend: ChildProcess?
    /// When it starts again; nil until it was connected once: what fails at first is not tried again.
    var restarts: RestartPolicy?
    /// Gone from the store and the hypervisor.
    var isReleased = false

    var name: String { specification.vdev.name }
    /// Has the frontend's number in it once that serves its clients.
    var readyFile: String { socket + ".pid" }
    /// Whether the frontend has come so far.
    var wasReady: Bool { FileSystem.text(of: readyFile).map { !$0.isEmpty } ?? false }
    /// What NBD clients are given.
    var uri: String { "nbd+unix:///?socket=\(socket.percentEncodedForQuery)" }
    /// `CAUSEWAY_NBD_xvda`.
    var variable: String { "CAUSEWAY_NBD_\(name)" }

    /// Whether a front end of vhost-user is to have it, and no frontend of Xen's.
    var isForVhostUser: Bool { specification.front == .vhostUser }
    /// Where that one finds it.
    func vhostSocket(in directory: String) -> String {
        VhostExports.path(of: DeviceID(frontend: domain, number: paths.device), in: directory)
    }

    /// The line that `pair` prints.
    func line(in directory: String) -> String {
        let access = specification.isReadOnly ? "read-only" : "read-write"
        let place = isForVhostUser ? "vhost-user at \(vhostSocket(in: directory))" : uri
        return "\(name): \(specification.target) \(access), domain \(domain), \(place)"
    }
}
