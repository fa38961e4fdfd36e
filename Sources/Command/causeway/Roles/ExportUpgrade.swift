// An export that becomes another build of itself while its front ends wait a moment: puts its disks by and becomes the
// new program, with the same number, sockets and COMMAND. What says no before that costs nobody anything; what fails
// then is undone, and the old program goes on.

import CommandSupport
import Glibc
import LinuxSystem
import Synchronization
import VhostUser

/// Listens for `causeway upgrade`.
final class ExportUpgrade: Sendable {
    /// Where it listens; nil: nowhere.
    let path: String?
    private let directory: PairDirectory
    private let listener: Descriptor?
    private let devices: [ExportedDevice]
    /// Who keeps what the new program needs; nil: this process takes it along.
    private let keeper: KeeperLink?
    /// Why no other program can go on; nil: one can.
    private let obstacle: String?
    private let state = Mutex(State())

    private struct State {
        var isEnding = false
        var command: ExportSuccession.Command?
        var thread: WorkerThread?
    }

    /// An export that nobody can ask serves as well: why that is so is said.
    init(
        at path: String, _ directory: PairDirectory, _ devices: [ExportedDevice], keeper: KeeperLink?, obstacle: String?
    ) {
        self.obstacle = obstacle
        self.directory = directory
        self.devices = devices
        self.keeper = keeper
        if FileSystem.isSocket(path), !StreamSocket.isListening(at: path) { FileSystem.remove(path) }
        do throws(Errno) { listener = try StreamSocket.listen(path: path, backlog: 4, blocks: true) } catch {
            complain("export: \(path): \(error); it cannot be upgraded")
            (self.path, listener) = (nil, nil)
            return
        }
        self.path = path
        do throws(Errno) {
            let thread = try WorkerThread(name: "upgrade") { [self] in serve() }
            state.withLock { $0.thread = thread }
        } catch {
            FileSystem.remove(path)
            complain("export: \(error); it cannot be upgraded")
        }
    }

    /// Where an export listens whose sockets are in a directory.
    static func path(in directory: String) -> String { "\(directory)/export.sock" }
    /// Where one listens whose only socket has a name of its own.
    static func path(beside socket: String) -> String { "\(socket).export" }

    /// Runs `body` while nothing is put by: what it learns of COMMAND's end is not lost to a successor.
    func whileServing<R>(_ body: () -> R) -> R { state.withLock { _ in body() } }

    /// COMMAND runs.
    func started(_ child: ChildProcess) {
        state.withLock { $0.command = ExportSuccession.Command(process: child.process, leadsGroup: child.leadsGroup) }
    }

    /// Nobody can ask any more.
    func close() {
        let thread = state.withLock { state in
            state.isEnding = true
            defer { state.thread = nil }
            return state.thread
        }
        if let path { FileSystem.remove(path) }
        listener?.shutDown()
        thread?.join()
    }

    private func serve() {
        guard let listener else { return }
        do throws(Errno) {
            while true {
                guard let asker = try StreamSocket.accept(listener) else { continue }
                guard StreamSocket.peerIsHost(asker) else { continue }
                try? asker.setTimeout(SO_RCVTIMEO, seconds: 2)
                guard let program = SuccessorProgram.named(by: asker) else { continue }
                do throws(Failure) { try become(program, asker) } catch {
                    UpgradeReply.refused(error.message ?? "no").send(to: asker)
                }
            }
        } catch {}
    }

    /// Does not return if all goes well.
    private func become(_ program: String, _ asker: Descriptor) throws(Failure) {
        if let obstacle { throw Failure(obstacle) }
        let format = try SuccessorProgram.format(of: program, "export")
        guard format == ExportSuccession.format else {
            throw Failure("\(program): goes on with exports of format \(format), and this one's is \(ExportSuccession.format)")
        }
        try state.withLock { (state: inout State) throws(Failure) in
            guard !state.isEnding else { throw Failure("the export is ending") }
            let heldAt = SystemTime().nanoseconds
            // All at once: a disk's pause is not to be the sum of all.
            for device in devices { device.server.askToHold() }
            let held = devices.map { $0.server.hold() }
            do throws(Failure) { try succeed(program, asker, heldAt, state.command, held) } catch {
                for device in devices {
                    do throws(Errno) { try device.server.resume() } catch { complain("export: \(device.name): \(error)") }
                }
                throw error
            }
        }
    }

    private func succeed(
        _ program: String, _ asker: Descriptor, _ heldAt: UInt64, _ command: ExportSuccession.Command?, _ held: [VhostHandover?]
    ) throws(Failure) {
        if let keeper { return try keeper.succeed(program, CommandLine.arguments, asker, heldAt) }
        var kept = [asker]
        let left = zip(devices, held).map { device, handover in
            ExportSuccession.Device(device.name, at: device.server.path, device.server.listener, handover, device.vif) {
                kept.append($0)
                return $0.rawValue
            }
        }
        let file = "\(directory.run)/succession-\(getpid()).json"
        let succession = ExportSuccession(
            heldAt: heldAt, directory.run, isPrivate: directory.isPrivate, command, asker: asker.rawValue, left)
        try succession.write(to: file)
        let error = ChildProcess.succeed(
            program: program, arguments: OwnArguments(of: "export").adding(Export.resumeOption, file), keeping: kept)
        FileSystem.remove(file)
        throw Failure("\(program): \(error)")
    }
}

/// Waits until every device is served, and says so once.
final class UpgradeReport: Sendable {
    private let heldAt: UInt64
    private let state: Mutex<State>

    private struct State {
        var left: Int
        var asker: Descriptor?
        var then: (@Sendable () -> Void)?
    }

    init(devices: Int, heldAt: UInt64, to asker: Descriptor?) {
        self.heldAt = heldAt
        state = Mutex(State(left: devices, asker: asker))
    }

    /// Whether all are.
    var isOver: Bool { state.withLock { $0.left <= 0 } }

    /// One more has to be there than was known.
    func expectOneMore() { state.withLock { $0.left += 1 } }

    /// One more is.
    func began() {
        let (asker, then) = state.withLock { state -> (Descriptor?, (@Sendable () -> Void)?) in
            state.left -= 1
            return state.left == 0 ? (state.asker.take(), state.then.take()) : (nil, nil)
        }
        if let asker {
            UpgradeReply.done(nanoseconds: SystemTime().nanoseconds &- heldAt, version: causewayVersion).send(to: asker)
        }
        then?()
    }

    /// Calls `then` when all are served, at once if they are.
    func whenAllBegan(_ then: @escaping @Sendable () -> Void) {
        let isNow = state.withLock { state in
            if state.left > 0 { state.then = then }
            return state.left <= 0
        }
        if isNow { then() }
    }
}

/// What whoever asked is told.
enum UpgradeReply {
    case refused(String)
    /// By how long the front ends were kept waiting, and the version that serves them now.
    case done(nanoseconds: UInt64, version: String)

    func send(to asker: Descriptor) {
        let text =
            switch self {
            case .refused(let reason): "refused\t\(reason)\n"
            case .done(let nanoseconds, let version): "done\t\(nanoseconds)\t\(version)\n"
            }
        try? asker.setTimeout(SO_SNDTIMEO, seconds: 1)
        _ = try? StreamSocket.send(asker.rawValue, Array(text.utf8)[...], wait: true)
    }

    init?(_ line: String) {
        let words = line.split(separator: "\t", maxSplits: 2).map(String.init)
        switch (words.first, words.count) {
        case ("refused", 2...): self = .refused(words.dropFirst().joined(separator: " "))
        case ("done", 3):
            guard let nanoseconds = UInt64(words[1]) else { return nil }
            self = .done(nanoseconds: nanoseconds, version: words[2])
        default: return nil
        }
    }
}
