// An NBD server that falls over when a test says so. Speaks what libnbd asks for and no more: the fixed newstyle
// handshake, NBD_OPT_GO, simple replies (the protocol's own document, doc/proto.md of NBD).

import Foundation
import Glibc
import Synchronization
import TestSupport

/// What a server's connection does.
enum ServerManner: Sendable, Equatable {
    /// Serves.
    case serve
    /// Hangs up before it has greeted.
    case hangUpAtOnce
    /// Takes the connection and never says a word.
    case silent
    /// Greets with something else.
    case greetWithGarbage
    /// Serves, and hangs up when it has taken so many requests; the last gets no answer.
    case hangUpAt(Int)
    /// The same with half an answer.
    case halfAnAnswerAt(Int)
    /// The same with an answer that makes no sense.
    case garbageAt(Int)
    /// Says to the request of this number, and to all after it, that it is shutting down.
    case shuttingDownAt(Int)
    /// Takes requests and answers none.
    case answerNothing
}

/// One request as a server saw it.
struct ServedCommand: Equatable, Sendable {
    enum Kind: UInt16, Sendable { case read = 0, write = 1, disconnect = 2, flush = 3, trim = 4, zeroes = 6 }
    let connection: Int
    let kind: Kind
    let offset: UInt64
    let count: Int
    /// NBD_CMD_FLAG_FUA.
    var isDurable = false
}

/// Listens on a Unix socket of its own; gone with its last reference.
final class ScriptedNBDServer: @unchecked Sendable {
    /// What the export is like.
    struct Export: Sendable {
        var byteCount: UInt64 = 1 << 20
        /// NBD_FLAG_HAS_FLAGS, SEND_FLUSH, SEND_TRIM, SEND_WRITE_ZEROES, CAN_MULTI_CONN.
        var flags: UInt16 = 1 | 1 << 2 | 1 << 5 | 1 << 6 | 1 << 8
        var minimumBlock: UInt32 = 512
        var isReadOnly: Bool {
            get { flags & 2 != 0 }
            set { flags = newValue ? flags | 2 : flags & ~2 }
        }
    }
    private struct State: Sendable {
        var export = Export()
        var manners: [ServerManner] = []
        var memory: [UInt8]
        var commands: [ServedCommand] = []
        var connections: [Int32] = []
        var accepted = 0
        var isStopping = false
    }
    private let directory: TemporaryDirectory
    private let listener: Int32
    private let state: Mutex<State>
    let uri: String

    /// - Parameter manners: what the first connections do, in order; later ones serve.
    init(_ manners: ServerManner...) throws {
        directory = try TemporaryDirectory()
        let path = directory.path + "/s.sock"
        uri = "nbd+unix:///?socket=\(path)"
        state = Mutex(State(manners: manners, memory: [UInt8](repeating: 0, count: 2 << 20)))
        let listener = socket(AF_UNIX, Int32(SOCK_STREAM.rawValue), 0)
        self.listener = listener
        var address = sockaddr_un()
        address.sun_family = sa_family_t(AF_UNIX)
        withUnsafeMutableBytes(of: &address.sun_path) { $0.copyBytes(from: path.utf8) }
        let bound = withUnsafePointer(to: &address) {
            $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                bind(listener, $0, socklen_t(MemoryLayout<sockaddr_un>.size))
            }
        }
        guard bound == 0, listen(listener, 16) == 0 else { throw CommandFailed(text: "cannot listen at \(path)") }
        let weak = WeakServer(self)
        Thread.detachNewThread {
            while true {
                let connection = accept(listener, nil, nil)
                guard connection >= 0, let server = weak.server else { return }
                server.begin(connection)
            }
        }
    }

    deinit {
        shutdown(listener, Int32(SHUT_RDWR))
        close(listener)
        hangUp()
    }

    private final class WeakServer: @unchecked Sendable {
        weak var server: ScriptedNBDServer?
        init(_ server: ScriptedNBDServer) { self.server = server }
    }

    /// What the export is like from the next connection on.
    var export: Export {
        get { state.withLock { $0.export } }
        set { state.withLock { $0.export = newValue } }
    }
    /// What the next connections do.
    func next(_ manners: ServerManner...) { state.withLock { $0.manners = manners } }
    /// The same, as a list.
    var script: [ServerManner] {
        get { state.withLock { $0.manners } }
        set { state.withLock { $0.manners = newValue } }
    }
    /// Connections so far.
    var accepted: Int { state.withLock { $0.accepted } }
    /// Everything that was asked so far, whether it was answered or not.
    var commands: [ServedCommand] { state.withLock { $0.commands } }
    var memory: [UInt8] { state.withLock { $0.memory } }

    /// Cuts all connections.
    func hangUp() {
        for connection in state.withLock({ $0.connections }) { shutdown(connection, Int32(SHUT_RDWR)) }
    }

    private func begin(_ connection: Int32) {
        let (number, manner, export) = state.withLock { state in
            state.accepted += 1
            state.connections.append(connection)
            return (state.accepted, state.manners.isEmpty ? ServerManner.serve : state.manners.removeFirst(), state.export)
        }
        let weak = WeakServer(self)
        Thread.detachNewThread {
            let wire = Wire(connection)
            if wire.handshake(export, manner) {
                var served = 0
                while let server = weak.server, server.serveOne(wire, number, manner, &served) {}
            }
            shutdown(connection, Int32(SHUT_RDWR))
            if let server = weak.server { server.state.withLock { $0.connections.removeAll { $0 == connection } } }
            close(connection)
        }
    }

    /// False: the connection ends.
    private func serveOne(_ wire: Wire, _ number: Int, _ manner: ServerManner, _ served: inout Int) -> Bool {
        guard let header = wire.read(28), header.number(0, 4) == 0x2560_9513,
            let kind = ServedCommand.Kind(rawValue: UInt16(header.number(6, 2)))
        else { return false }
        let (cookie, offset, count) = (header.number(8, 8), header.number(16, 8), Int(header.number(24, 4)))
        guard let data = kind == .write ? wire.read(count) : [], kind != .disconnect else { return false }
        served += 1
        state.withLock {
            $0.commands.append(
                ServedCommand(
                    connection: number, kind: kind, offset: offset, count: count, isDurable: header.number(4, 2) & 1 != 0))
        }
        if manner == .answerNothing { return true }
        if case .hangUpAt(let last) = manner, served >= last { return false }
        if case .garbageAt(let last) = manner, served >= last { return wire.write(Array("HTTP/1.1 400 No\r\n\r\n".utf8)) }
        var error: UInt64 = 0
        if case .shuttingDownAt(let first) = manner, served >= first { error = 108 }
        let start = Int(offset)
        var reply: [UInt8] = []
        if error == 0 {
            reply = state.withLock { state in
                switch kind {
                case .read: return Array(state.memory[start..<start + count])
                case .write: state.memory.replaceSubrange(start..<start + count, with: data)
                case .trim, .zeroes: state.memory.replaceSubrange(start..<start + count, with: repeatElement(0, count: count))
                default: break
                }
                return []
            }
        }
        let answer = be(0x6744_6698, 4) + be(error, 4) + be(cookie, 8) + reply
        if case .halfAnAnswerAt(let last) = manner, served >= last {
            _ = wire.write(Array(answer.prefix(answer.count / 2)))
            return false
        }
        return wire.write(answer)
    }
}

/// Big-endian bytes.
private func be(_ value: UInt64, _ count: Int) -> [UInt8] {
    (0..<count).map { UInt8(truncatingIfNeeded: value >> (8 * (count - 1 - $0))) }
}

extension [UInt8] {
    fileprivate func number(_ offset: Int, _ count: Int) -> UInt64 {
        self[offset..<offset + count].reduce(0) { $0 << 8 | UInt64($1) }
    }
}

/// One connection's bytes.
private struct Wire {
    let socket: Int32
    init(_ socket: Int32) { self.socket = socket }

    func read(_ count: Int) -> [UInt8]? {
        var bytes = [UInt8](repeating: 0, count: count)
        var done = 0
        while done < count {
            let got = bytes.withUnsafeMutableBytes { recv(socket, $0.baseAddress! + done, count - done, 0) }
            if got <= 0 { return nil }
            done += got
        }
        return bytes
    }

    func write(_ bytes: [UInt8]) -> Bool {
        var done = 0
        while done < bytes.count {
            let sent = bytes.withUnsafeBytes { send(socket, $0.baseAddress! + done, bytes.count - done, Int32(MSG_NOSIGNAL)) }
            if sent <= 0 { return false }
            done += sent
        }
        return true
    }

    /// False: the connection ends.
    func handshake(_ export: ScriptedNBDServer.Export, _ manner: ServerManner) -> Bool {
        switch manner {
        case .hangUpAtOnce: return false
        case .silent: return read(1 << 20) != nil
        case .greetWithGarbage: return write(Array("SSH-2.0-OpenSSH_9.2p1 Debian\r\n".utf8)) && false
        default: break
        }
        let optionMagic: UInt64 = 0x4948_4156_454F_5054
        guard write(be(0x4E42_444D_4147_4943, 8) + be(optionMagic, 8) + be(3, 2)), read(4) != nil else { return false }
        while true {
            guard let header = read(16), header.number(0, 8) == optionMagic else { return false }
            let (option, count) = (header.number(8, 4), Int(header.number(12, 4)))
            guard count == 0 || read(count) != nil else { return false }
            func reply(_ kind: UInt64, _ data: [UInt8] = []) -> Bool {
                write(be(0x3_E889_0455_65A9, 8) + be(option, 4) + be(kind, 4) + be(UInt64(data.count), 4) + data)
            }
            guard option == 7 else {
                // What else is asked for is not known here.
                guard option != 2, reply(0x8000_0001) else { return false }
                continue
            }
            let sizes = be(3, 2) + be(UInt64(export.minimumBlock), 4) + be(4096, 4) + be(1 << 25, 4)
            return reply(3, be(0, 2) + be(export.byteCount, 8) + be(UInt64(export.flags), 2)) && reply(3, sizes) && reply(1)
        }
    }
}
