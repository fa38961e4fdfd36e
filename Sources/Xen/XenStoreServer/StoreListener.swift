// A socket that the store's clients connect to: the host's tools, or the programs of one domain that know no other way
// in (libxenstore, with XENSTORED_PATH).

import Glibc
import LinuxSystem
import XenTypes

/// Who may connect, and as whom.
struct StoreListener: Sendable {
    let socket: Descriptor
    let path: String
    /// Whoever connects is this domain, whatever it says.
    let domain: DomainID
    /// Beside the superuser and the server's own user.
    var user: UInt32?
    /// Connections of that domain at which no more are taken; nil: the store's own limit alone.
    var mostConnections: Int?

    /// Listens at `path`. A socket that nobody serves any more is replaced.
    static func open(
        _ path: String, domain: DomainID, user: UInt32? = nil, mostConnections: Int? = nil
    ) throws(Errno) -> StoreListener {
        if FileSystem.exists(path) {
            // Whether anyone serves it shows when one tries.
            let served = (try? StreamSocket.connect(path: path)) != nil
            if served { throw Errno.addressInUse }
            FileSystem.remove(path)
        }
        let socket = try StreamSocket.listen(path: path)
        if let user, user != geteuid() {
            // The domain's user is the only one that the file lets in. Where this process may not give it away, all may
            // knock, and are asked who they are.
            do throws(Errno) { try FileSystem.setOwner(of: path, to: user) } catch {
                try FileSystem.setMode(of: path, to: 0o666)
            }
        }
        return StoreListener(socket: socket, path: path, domain: domain, user: user, mostConnections: mostConnections)
    }

    /// Whether the process at the other end of `socket` may come in, by the kernel's word.
    func admits(_ socket: Descriptor) -> Bool {
        guard let peer = try? PacketSocket.peerUser(socket) else { return false }
        return peer == 0 || peer == geteuid() || peer == user
    }
}
