// How `causeway status` learns what a backend process knows: a socket in the run directory that gives a few lines to
// whoever connects, and closes.

import Glibc
import LinuxSystem

/// Which side of devices a process has; its status socket's name begins so.
enum StatusSide: Character, CaseIterable {
    case backend = "b"
    case frontend = "f"
}

/// The serving side. Readable by the process's own user and root.
final class StatusSocket: @unchecked Sendable {
    private let path: String
    private let listener: Descriptor
    private var thread: WorkerThread?

    /// nil if there can be none; the process does without.
    /// - Parameter side: whose numbers they are.
    init?(of side: StatusSide = .backend, in directory: String, _ lines: @escaping @Sendable () -> [StatusLine]) {
        StatusClient.removeLeftovers(in: directory)
        path = "\(directory)/\(side.rawValue)\(getpid()).sock"
        FileSystem.remove(path)
        guard let listener = try? StreamSocket.listen(path: path, backlog: 4, blocks: true) else {
            FileSystem.remove(path)
            return nil
        }
        self.listener = listener
        thread = try? WorkerThread(name: "status") {
            do throws(Errno) {
                while true {
                    if let peer = try StreamSocket.accept(listener) { Self.tell(peer, lines()) }
                }
            } catch {}
        }
        if thread == nil { FileSystem.remove(path) }
    }

    private static func tell(_ peer: Descriptor, _ lines: [StatusLine]) {
        // Whoever does not read must not keep the next one waiting.
        try? peer.setTimeout(SO_SNDTIMEO, seconds: 1)
        var bytes = Array(lines.map(\.text).joined().utf8)[...]
        while !bytes.isEmpty {
            guard let sent = try? StreamSocket.send(peer.rawValue, bytes, wait: true), sent > 0 else { return }
            bytes = bytes.dropFirst(sent)
        }
    }

    /// Ends it; the socket goes.
    func close() {
        FileSystem.remove(path)
        listener.shutDown()
        thread?.join()
        thread = nil
    }
}
