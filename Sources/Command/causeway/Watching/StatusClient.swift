// The asking side of a backend's status socket.

import CommandSupport
import Glibc
import LinuxSystem

/// The asking side.
enum StatusClient {
    /// What every backend process, and every interface's frontend, of a run directory says; sockets that nobody serves
    /// any more are passed over.
    static func lines(in directory: String) -> [StatusLine] {
        sockets(in: directory).flatMap { read("\(directory)/\($0)") }
    }

    /// Whether any backend process serves there, with devices or without.
    static func isAnybodyThere(in directory: String) -> Bool {
        sockets(in: directory).filter { $0.hasPrefix("b") }.contains { StreamSocket.isListening(at: "\(directory)/\($0)") }
    }

    /// Backends that have left their sockets: they were killed, and nobody has begun in their place.
    static func dead(in directory: String) -> [pid_t] {
        sockets(in: directory).filter { $0.hasPrefix("b") }.compactMap(pid).filter { kill($0, 0) < 0 && errno == ESRCH }
    }

    /// What is to be said of these; nil: nothing.
    static func complaint(_ dead: [pid_t], in directory: RunDirectory) -> String? {
        guard let first = dead.first else { return nil }
        return
            "\(directory): backend \(first) has died, and no other has begun there since; `causeway backend` goes on with its devices"
    }

    /// Removes what killed processes left.
    static func removeLeftovers(in directory: String) {
        for name in sockets(in: directory) {
            guard let process = pid(name), kill(process, 0) < 0, errno == ESRCH else { continue }
            FileSystem.remove("\(directory)/\(name)")
        }
    }

    private static func pid(_ name: String) -> pid_t? {
        guard let first = name.first, StatusSide(rawValue: first) != nil, name.hasSuffix(".sock") else { return nil }
        return pid_t(name.dropFirst().dropLast(5))
    }

    private static func sockets(in directory: String) -> [String] {
        FileSystem.names(in: directory).filter { pid($0) != nil }.sorted()
    }

    private static func read(_ path: String) -> [StatusLine] {
        guard let socket = try? StreamSocket.connect(path: path) else { return [] }
        try? socket.setTimeout(SO_RCVTIMEO, seconds: 2)
        var bytes: [UInt8] = []
        // A process that never stops talking is not heard out.
        while bytes.count < 1 << 20 {
            guard let more = try? StreamSocket.receive(socket.rawValue, capacity: 4096, wait: true), !more.isEmpty else { break }
            bytes += more
        }
        return String(decoding: bytes, as: UTF8.self).split(separator: "\n").compactMap { StatusLine($0) }
    }
}
