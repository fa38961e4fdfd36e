// The socket that a disk's NBD clients connect to.

import CommandSupport
import Confinement
import LinuxSystem

/// A socket that listens.
struct NBDSocket {
    let listener: Descriptor
    /// Where clients find it.
    let uri: String
    /// Whether whoever started this process knows where it is.
    let isGiven: Bool
    /// The file that goes with this process; nil: there is none, or it is somebody else's.
    private let path: String?

    /// - Parameters:
    ///   - name: the export's, for the address that clients are told.
    ///   - isListening: descriptor 3 is it already.
    init(_ address: NBDAddress, name: String, isListening: Bool) throws(Failure) {
        isGiven = isListening
        switch address {
        case .file(let path, let export):
            uri = "nbd+unix:///\(export?.percentEncodedForQuery ?? "")?socket=\(path.percentEncodedForQuery)"
            self.path = isListening ? nil : path
            if isListening {
                listener = Descriptor(owning: 3)
                listener.closeOnExec()
                return
            }
            try Self.claim(path)
            do throws(Errno) { listener = try StreamSocket.listen(path: path) } catch {
                throw Failure("frontend: --nbd: \(path): \(error)")
            }
        case .loopback(let address, let export):
            path = nil
            do throws(Errno) {
                let port: UInt16
                (listener, port) = try LoopbackSocket.listen(port: address.port, isSix: address.isSix)
                uri = "nbd://\(address.host):\(port)/\((export ?? name).percentEncodedForQuery)"
            } catch { throw Failure("frontend: --nbd: \(address.host):\(address.port): \(error)") }
        }
    }

    /// What a confined process may still do with files: remove the socket.
    var rules: [FileRule] { path.map { [FileRule(Self.directory(of: $0), .remove)] } ?? [] }

    /// At the end.
    func remove() { if let path { FileSystem.remove(path) } }

    private static func directory(of path: String) -> String {
        path.lastIndex(of: "/").map { $0 == path.startIndex ? "/" : String(path[..<$0]) } ?? "."
    }

    /// Makes room where it is to be: it takes the place of nothing, and says whose it is.
    private static func claim(_ path: String) throws(Failure) {
        if let holder = StreamSocket.listeningHolder(at: path) {
            throw Failure("frontend: --nbd: \(path): \(holder) listens there")
        }
        // One that a killed frontend left behind, or that another has bound by another name.
        if FileSystem.isSocket(path) {
            if StreamSocket.accepts(at: path) { throw Failure("frontend: --nbd: \(path): another process listens there") }
            FileSystem.remove(path)
        }
        if FileSystem.exists(path) { throw Failure("frontend: --nbd: \(path): is there, and is no socket") }
        let directory = directory(of: path)
        do throws(Errno) { _ = try FileSystem.kind(of: directory) } catch {
            throw Failure("frontend: --nbd: \(directory): \(error)")
        }
    }
}
