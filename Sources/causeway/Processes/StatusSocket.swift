// How `causeway status` learns what a backend process knows: a socket in the run directory that gives a few lines to whoever connects, and closes.

import Glibc
import LinuxSystem

/// A line: whose, and a name and a number.
struct StatusLine: Hashable {
    var subject: String
    var name: String
    var value: UInt64

    var text: String { "\(subject)\t\(name)\t\(value)\n" }

    init(_ subject: String, _ name: String, _ value: UInt64) {
        self.subject = subject
        self.name = name
        self.value = value
    }

    init?(_ text: Substring) {
        let fields = text.split(separator: "\t")
        guard fields.count == 3, let value = UInt64(fields[2]) else { return nil }
        self.init(String(fields[0]), String(fields[1]), value)
    }
}

/// The serving side. Readable by the process's own user and root.
final class StatusSocket: @unchecked Sendable {
    private let path: String
    private let listener: Descriptor
    private var thread: WorkerThread?

    /// nil if there can be none; the process does without.
    init?(in directory: String, _ lines: @escaping @Sendable () -> [StatusLine]) {
        StatusClient.removeLeftovers(in: directory)
        path = "\(directory)/b\(getpid()).sock"
        let raw = socket(AF_UNIX, Int32(SOCK_STREAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue), 0)
        guard raw >= 0 else { return nil }
        listener = Descriptor(owning: raw)
        guard var address = UnixSocket.address(path) else { return nil }
        _ = unsafe unlink(path)
        let bound = unsafe withUnsafePointer(to: &address) { pointer in
            // SAFETY: every socket address begins as a sockaddr does.
            unsafe pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { generic in
                unsafe bind(raw, generic, socklen_t(MemoryLayout<sockaddr_un>.size))
            }
        }
        guard bound == 0, unsafe chmod(path, 0o600) == 0, listen(raw, 4) == 0 else {
            _ = unsafe unlink(path)
            return nil
        }
        thread = try? WorkerThread(name: "status") {
            while true {
                let peer = accept(raw, nil, nil)
                if peer < 0 {
                    if errno == EINTR || errno == ECONNABORTED { continue }
                    return
                }
                Self.tell(Descriptor(owning: peer), lines())
            }
        }
        if thread == nil { _ = unsafe unlink(path) }
    }

    private static func tell(_ peer: Descriptor, _ lines: [StatusLine]) {
        // Whoever does not read must not keep the next one waiting.
        var limit = timeval(tv_sec: 1, tv_usec: 0)
        _ = unsafe setsockopt(peer.rawValue, SOL_SOCKET, SO_SNDTIMEO, &limit, socklen_t(MemoryLayout<timeval>.size))
        var bytes = Array(lines.map(\.text).joined().utf8)[...]
        while !bytes.isEmpty {
            let sent = unsafe bytes.withUnsafeBytes { unsafe send(peer.rawValue, $0.baseAddress, $0.count, Int32(MSG_NOSIGNAL)) }
            if sent <= 0 { return }
            bytes = bytes.dropFirst(sent)
        }
    }

    /// Ends it; the socket goes.
    func close() {
        _ = unsafe unlink(path)
        _ = shutdown(listener.rawValue, Int32(SHUT_RDWR))
        thread?.join()
        thread = nil
    }
}

/// The asking side.
enum StatusClient {
    /// What every backend process of a run directory says; sockets that nobody serves any more are passed over.
    static func lines(in directory: String) -> [StatusLine] {
        sockets(in: directory).flatMap { read("\(directory)/\($0)") }
    }

    /// Whether any backend process serves there, with devices or without.
    static func isAnybodyThere(in directory: String) -> Bool {
        sockets(in: directory).contains { UnixSocket.isListening(at: "\(directory)/\($0)") }
    }

    /// Removes what killed processes left.
    static func removeLeftovers(in directory: String) {
        for name in sockets(in: directory) {
            guard let process = pid(name), kill(process, 0) < 0, errno == ESRCH else { continue }
            _ = unsafe unlink("\(directory)/\(name)")
        }
    }

    private static func pid(_ name: String) -> pid_t? {
        name.hasPrefix("b") && name.hasSuffix(".sock") ? pid_t(name.dropFirst().dropLast(5)) : nil
    }

    private static func sockets(in directory: String) -> [String] {
        guard let handle = unsafe opendir(directory) else { return [] }
        defer { unsafe _ = closedir(handle) }
        var names: [String] = []
        while let entry = unsafe readdir(handle) {
            let name = unsafe withUnsafePointer(to: &entry.pointee.d_name) { field in
                // SAFETY: the kernel ends the name with a NUL.
                unsafe field.withMemoryRebound(to: CChar.self, capacity: 256) { unsafe String(cString: $0) }
            }
            if pid(name) != nil { names.append(name) }
        }
        return names.sorted()
    }

    private static func read(_ path: String) -> [StatusLine] {
        guard let descriptor = UnixSocket.connected(to: path) else { return [] }
        var limit = timeval(tv_sec: 2, tv_usec: 0)
        _ = unsafe setsockopt(descriptor.rawValue, SOL_SOCKET, SO_RCVTIMEO, &limit, socklen_t(MemoryLayout<timeval>.size))
        var bytes: [UInt8] = []
        var buffer = [UInt8](repeating: 0, count: 4096)
        // A process that never stops talking is not heard out.
        while bytes.count < 1 << 20 {
            let count = unsafe buffer.withUnsafeMutableBytes { unsafe recv(descriptor.rawValue, $0.baseAddress, $0.count, 0) }
            if count <= 0 { break }
            bytes += buffer[..<count]
        }
        return String(decoding: bytes, as: UTF8.self).split(separator: "\n").compactMap { StatusLine($0) }
    }
}
