// Who has something that only one may have. The kernel gives a claim back when its process ends, however it ends;
// whoever comes second learns who was first.

import Glibc

/// A process that has claimed something.
public struct ClaimHolder: Hashable, Sendable, CustomStringConvertible {
    /// Its process id; nil if that cannot be told.
    public let process: Int32?

    /// The process `process`.
    public init(process: Int32?) { self.process = process }

    /// `process 71 (causeway pair --disk …)`.
    public var description: String {
        guard let process else { return "another process" }
        // Others' words, which may have line ends and escape sequences in them.
        let line = FileSystem.text(of: "/proc/\(process)/cmdline")?.split(separator: "\0").joined(separator: " ") ?? ""
        let words = String(
            String.UnicodeScalarView(line.unicodeScalars.map { $0.properties.generalCategory == .control ? " " : $0 }))
        if words.isEmpty { return "process \(process)" }
        return "process \(process) (\(words.count > 100 ? words.prefix(99) + "…" : words[...]))"
    }
}

/// Why something could not be claimed.
public enum ClaimError: Error, Hashable, Sendable, CustomStringConvertible {
    /// Another process has it.
    case taken(ClaimHolder)
    /// It could not be asked for.
    case system(Errno)

    /// One clause, to stand behind what was claimed.
    public var description: String {
        switch self {
        case .taken(let holder): "in use by \(holder)"
        case .system(let reason): "\(reason)"
        }
    }
}

/// A claim on a place in the file system: a locked file, in which its holder's number stands.
public struct FileClaim: Sendable {
    /// The locked file; kept open for as long as the claim is to last, by whoever inherits it, too.
    public let descriptor: Descriptor

    /// Claims what the file at `path` stands for; the file is made if there is none, and stays.
    /// - Parameters:
    ///   - patience: milliseconds to wait for a holder that is ending.
    ///   - time: what they go by.
    public init(_ path: String, patience: Int64 = 0, time: some TimeSource) throws(ClaimError) {
        do throws(Errno) {
            descriptor = try Descriptor.open(path, O_RDWR | O_CREAT, mode: 0o600)
        } catch { throw .system(error) }
        let number = descriptor.rawValue
        let end = time.milliseconds + patience
        while true {
            do throws(Errno) {
                try retryingInterrupts { flock(number, LOCK_EX | LOCK_NB) }
                break
            } catch {
                guard error == .wouldBlock else { throw .system(error) }
                guard time.milliseconds < end else {
                    throw .taken(ClaimHolder(process: FileSystem.text(of: path).flatMap { Self.number($0) }))
                }
                time.sleep(milliseconds: 20)
            }
        }
        // For whoever comes second; without it the claim is as good.
        let text = Array("\(getpid())\n".utf8)
        _ = ftruncate(number, 0)
        // SAFETY: the kernel reads the bytes during the call.
        _ = unsafe pwrite(number, text, text.count, 0)
    }

    private static func number(_ text: String) -> Int32? { text.split(separator: "\n").first.flatMap { Int32($0) } }
}

/// A claim on a name in the network namespace of the thread that makes it, such as an interface's: a socket without a
/// file, of which a namespace has one.
public struct NamespaceClaim: Sendable {
    private let socket: Descriptor

    /// Claims `name`, at most 100 bytes.
    public init(_ name: String) throws(ClaimError) {
        do throws(Errno) {
            let made = try UnixSocket.make(SOCK_STREAM)
            let address = try SocketAddress(notifyName: "@causeway/\(name)")
            // SAFETY: `lend` says for how long the address is there.
            try retryingInterrupts { unsafe address.lend { unsafe Glibc.bind(made.rawValue, $0, $1) } }
            // Nobody is accepted: whoever connects learns who listens, and that is all. Those who asked stay in the
            // queue, though they are gone.
            try UnixSocket.listen(made, backlog: 4096)
            socket = made
        } catch {
            throw error == .addressInUse ? .taken(Self.holder(of: name) ?? ClaimHolder(process: nil)) : .system(error)
        }
    }

    /// Who has claimed `name` in this thread's namespace; nil: nobody.
    public static func holder(of name: String) -> ClaimHolder? {
        guard let address = try? SocketAddress(notifyName: "@causeway/\(name)"), let asking = try? UnixSocket.make(SOCK_STREAM),
            (try? asking.setNonBlocking(true)) != nil
        else { return nil }
        do throws(Errno) {
            // SAFETY: `lend` says for how long the address is there.
            try retryingInterrupts { unsafe address.lend { unsafe Glibc.connect(asking.rawValue, $0, $1) } }
        } catch {
            // Asked by many at once: somebody is there, and cannot be told from here.
            return error == .wouldBlock ? ClaimHolder(process: nil) : nil
        }
        return ClaimHolder(process: try? PacketSocket.peerProcess(asking))
    }
}
