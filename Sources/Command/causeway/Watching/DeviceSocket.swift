// How `causeway device` reaches the devices of a process: a socket in its run directory that answers one request to
// whoever connects, and closes.

import CommandSupport
import DeviceControl
import Glibc
import LinuxSystem
import Synchronization

/// Whose devices a process answers for; its socket's name begins so.
enum DeviceEnd: String {
    /// A backend's or an export's: all of them, for `causeway device`.
    case back = "device-"
    /// A frontend's: its one, for `causeway fault`.
    case front = "front-"
}

/// The serving side. For the process's own user and root.
final class DeviceSocket: Sendable {
    private let path: String
    /// Whether this process can take the socket's file away.
    private let removes: Bool
    private let listener: Descriptor
    private let devices: @Sendable () -> [any ControlledDevice]
    private let thread = Mutex<WorkerThread?>(nil)
    private let askers = Atomic<Int>(0)

    /// Whoever asks is given a thread, for a pause may take its time; so many at most.
    private static let mostAskers = 8

    /// A socket that listens and that nobody serves yet.
    struct Place {
        fileprivate let path: String
        fileprivate let listener: Descriptor

        /// nil if there can be none; the process does without.
        init?(of end: DeviceEnd, in directory: String) {
            DeviceClient.removeLeftovers(of: end, in: directory)
            path = DeviceClient.path(of: getpid(), end, in: directory)
            FileSystem.remove(path)
            guard let listener = try? StreamSocket.listen(path: path, backlog: 4, blocks: true) else { return nil }
            self.listener = listener
        }
    }

    /// nil if there can be none; the process does without.
    convenience init?(
        of end: DeviceEnd = .back, in directory: String, _ devices: @escaping @Sendable () -> [any ControlledDevice]
    ) {
        guard let place = Place(of: end, in: directory) else { return nil }
        self.init(at: place, removing: true, devices)
    }

    /// The same where the socket was made before.
    /// - Parameter removes: whether it goes at the end; a process without files leaves it to whoever comes next.
    init?(
        at place: Place, removing removes: Bool, _ devices: @escaping @Sendable () -> [any ControlledDevice]
    ) {
        (path, listener, self.removes) = (place.path, place.listener, removes)
        self.devices = devices
        guard let thread = try? WorkerThread(name: "device", { [self] in serve() }) else {
            if removes { FileSystem.remove(path) }
            return nil
        }
        self.thread.withLock { $0 = thread }
    }

    /// Ends it; the socket goes.
    func close() {
        if removes { FileSystem.remove(path) }
        listener.shutDown()
        let thread = thread.withLock { $0.take() }
        thread?.join()
    }

    private func serve() {
        do throws(Errno) {
            while true {
                guard let asker = try StreamSocket.accept(listener), StreamSocket.peerIsHost(asker) else { continue }
                guard askers.add(1, ordering: .relaxed).newValue <= Self.mostAskers else {
                    askers.subtract(1, ordering: .relaxed)
                    DeviceClient.send(ControlAnswer.refused("too many ask at once").text, to: asker)
                    continue
                }
                do throws(Errno) {
                    try startDetachedThread(name: "device-asker") { [self] in
                        answer(asker)
                        askers.subtract(1, ordering: .relaxed)
                    }
                } catch { askers.subtract(1, ordering: .relaxed) }
            }
        } catch {}
    }

    private func answer(_ asker: Descriptor) {
        // Whoever says nothing is not waited for.
        try? asker.setTimeout(SO_RCVTIMEO, seconds: 2)
        guard let line = DeviceClient.receive(asker, most: ControlRequest.mostBytes, isOver: { $0.last == UInt8(ascii: "\n") })
        else { return }
        let answer: ControlAnswer
        do throws(ControlError) {
            let request = try ControlRequest(String(line.dropLast()))
            answer = request.answer(devices())
            Self.log(request, answer)
        } catch { answer = .refused(error.description) }
        DeviceClient.send(answer.text, to: asker)
    }

    /// Who wonders why a device goes wrong finds it in the log.
    private static func log(_ request: ControlRequest, _ answer: ControlAnswer) {
        guard case .done(let lines) = answer else { return }
        switch request {
        case .setFault(let device, let plan):
            note("fault: \(device): \(lines.first ?? "") is set on its \(plan.side) side, seed \(plan.seed)")
        case .clearFault(let device, _):
            for line in lines { note("fault: \(device): \(line.prefix { $0 != "\t" }) is set no more") }
        default: break
        }
    }
}

/// The asking side.
enum DeviceClient {
    static func path(of process: pid_t, _ end: DeviceEnd, in directory: String) -> String {
        "\(directory)/\(end.rawValue)\(process).sock"
    }

    private static func process(_ name: String, _ end: DeviceEnd) -> pid_t? {
        guard name.hasPrefix(end.rawValue), name.hasSuffix(".sock") else { return nil }
        return pid_t(name.dropFirst(end.rawValue.count).dropLast(5))
    }

    /// Removes what killed processes left.
    static func removeLeftovers(of end: DeviceEnd, in directory: String) {
        for name in FileSystem.names(in: directory) {
            guard let process = process(name, end), kill(process, 0) < 0, errno == ESRCH else { continue }
            FileSystem.remove("\(directory)/\(name)")
        }
    }

    /// What every process of a run directory says; those that nobody serves any more are passed over, and those that do
    /// not answer.
    static func all(
        _ request: ControlRequest, of end: DeviceEnd = .back, in directory: RunDirectory
    ) -> [(path: String, answer: ControlAnswer)] {
        hear(request, of: end, in: directory).compactMap { path, _, reply in
            if case .answer(let answer) = reply { (path, answer) } else { nil }
        }
    }

    private static func hear(
        _ request: ControlRequest, of end: DeviceEnd, in directory: RunDirectory
    ) -> [(path: String, process: pid_t, reply: Reply)] {
        FileSystem.names(in: directory.path).sorted().compactMap { name in
            guard let process = process(name, end) else { return nil }
            let path = "\(directory)/\(name)"
            return (path, process, ask(request, at: path))
        }
    }

    /// What the process that has the device says.
    static func ask(
        _ request: ControlRequest, of device: String, _ end: DeviceEnd = .back, in directory: RunDirectory,
        for command: String = "device"
    ) throws(Failure) -> [String] {
        let found = hear(.list, of: end, in: directory)
        var known: [String] = []
        for case (let path, let process, .answer(.done(let lines))) in found {
            let names = lines.map { String($0.prefix { $0 != "\t" }) }
            known += names
            guard names.contains(device) else { continue }
            switch ask(request, at: path) {
            case .answer(.done(let lines)): return lines
            case .answer(.refused(let reason)): throw Failure("\(command): \(reason)")
            case .none: throw Failure("\(command): \(device): its process has ended meanwhile")
            case .silence: throw silent(process, in: directory, for: command)
            }
        }
        for case (_, let process, .silence) in found { throw silent(process, in: directory, for: command) }
        guard found.contains(where: { if case .answer = $0.reply { true } else { false } }) else {
            throw nobody(end, in: directory, for: command)
        }
        throw Failure("\(command): \(ControlError.noSuchDevice(device, known: known))")
    }

    private static func silent(_ process: pid_t, in directory: RunDirectory, for command: String) -> Failure {
        Failure(
            "\(command): \(directory): process \(process) has not answered for \(patience) s; one of its threads stands still (top -H -p \(process))"
        )
    }

    static func nobody(_ end: DeviceEnd = .back, in directory: RunDirectory, for command: String = "device") -> Failure {
        let missing =
            end == .back ? "nobody answers there for devices; is a backend or an export" : "no frontend answers there; is one"
        return Failure("\(command): \(directory): \(missing) running, and as this user?")
    }

    /// What became of a question.
    private enum Reply {
        case answer(ControlAnswer)
        /// It is there, and says nothing.
        case silence
        /// Nobody serves there, or what was said is no answer.
        case none
    }

    /// Seconds that a process may take to say how things are.
    private static let patience = 5

    private static func ask(_ request: ControlRequest, at path: String) -> Reply {
        guard let socket = try? StreamSocket.connect(path: path) else { return .none }
        // What is done may take its time: a pause waits for a disk.
        if !request.acts { try? socket.setTimeout(SO_RCVTIMEO, seconds: patience) }
        send(request.line + "\n", to: socket)
        var bytes: [UInt8] = []
        do throws(Errno) {
            while bytes.count <= 1 << 24 {
                let more = try StreamSocket.receive(socket.rawValue, capacity: 65536, wait: true)
                if more.isEmpty { return ControlAnswer(String(decoding: bytes, as: UTF8.self)).map(Reply.answer) ?? .none }
                bytes += more
            }
            return .none
        } catch { return error == .wouldBlock ? .silence : .none }
    }

    fileprivate static func send(_ text: String, to peer: Descriptor) {
        // Whoever does not read must not keep a thread for ever.
        try? peer.setTimeout(SO_SNDTIMEO, seconds: 2)
        var bytes = Array(text.utf8)[...]
        while !bytes.isEmpty {
            guard let sent = try? StreamSocket.send(peer.rawValue, bytes, wait: true), sent > 0 else { return }
            bytes = bytes.dropFirst(sent)
        }
    }

    /// What comes until it is over, or the peer has said all; nil: it says too much, or nothing.
    fileprivate static func receive(_ peer: Descriptor, most: Int, isOver: ([UInt8]) -> Bool) -> String? {
        var bytes: [UInt8] = []
        while !isOver(bytes) {
            guard let more = try? StreamSocket.receive(peer.rawValue, capacity: 65536, wait: true) else { return nil }
            if more.isEmpty { break }
            bytes += more
            if bytes.count > most { return nil }
        }
        return bytes.isEmpty ? nil : String(decoding: bytes, as: UTF8.self)
    }
}
