// One disk of a pair: its guest, its frontend process, its place in the store.

import Toolstack
import XenWire

struct PairedDisk {
    let specification: DiskSpecification
    let domain: DomainID
    let paths: DevicePaths
    /// The NBD socket.
    let socket: String
    /// Nil once the frontend is gone.
    var frontend: ChildProcess?

    var name: String { specification.vdev.name }
    /// What NBD clients are given.
    var uri: String { "nbd+unix:///?socket=\(socket)" }
    /// `CAUSEWAY_NBD_xvda`.
    var variable: String { "CAUSEWAY_NBD_\(name)" }

    /// The line that `pair` prints.
    var line: String {
        let access = specification.isReadOnly ? "read-only" : "read-write"
        return "\(name): \(specification.target) \(access), domain \(domain), \(uri)"
    }
}
