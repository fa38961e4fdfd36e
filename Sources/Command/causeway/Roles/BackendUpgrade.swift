// A backend that becomes another build of itself while its frontends wait a moment: it ends what is in work, leaves its
// rings in the journals as a killed one does, puts its front ends of vhost-user by, and becomes the new program, with
// the same number. What says no before that costs nobody anything; where the exec fails the old program goes on with
// its own journals and front ends.

import CommandSupport
import Glibc
import LinuxSystem
import Synchronization

/// Listens for `causeway upgrade`.
final class BackendUpgrade: Sendable {
    /// What is to be done once the services have ended.
    struct Order: Sendable {
        let program: String
        let asker: Descriptor
        /// When the frontends began to wait; nanoseconds of `SystemTime`.
        let heldAt: UInt64
    }

    /// Of what a backend leaves; a program that goes on with another refuses.
    static let format = 2
    private static let prefix = "backend-"
    private static let suffix = ".upgrade"

    private let path: String
    private let listener: Descriptor
    private let keepsJournals: Bool
    /// Ends the services, and puts front ends of vhost-user by.
    private let stop: @Sendable () -> Void
    private let state = Mutex(State())

    private struct State {
        var order: Order?
        var isEnding = false
        var thread: WorkerThread?
    }

    /// nil: it cannot be asked, which is said; it serves as well.
    /// - Parameters:
    ///   - keepsJournals: whether frontends go on with their rings.
    ///   - stop: ends the services.
    init?(in directory: String, keepsJournals: Bool, stop: @escaping @Sendable () -> Void) {
        Self.removeLeftovers(in: directory)
        path = "\(directory)/\(Self.prefix)\(getpid())\(Self.suffix)"
        self.keepsJournals = keepsJournals
        self.stop = stop
        FileSystem.remove(path)
        do throws(Errno) {
            listener = try StreamSocket.listen(path: path, backlog: 4, blocks: true)
        } catch {
            complain("backend: \(path): \(error); it cannot be upgraded")
            return nil
        }
        do throws(Errno) {
            let thread = try WorkerThread(name: "upgrade") { [self] in serve() }
            state.withLock { $0.thread = thread }
        } catch {
            FileSystem.remove(path)
            complain("backend: \(error); it cannot be upgraded")
            return nil
        }
    }

    /// Where backends of a run directory listen.
    static func sockets(in directory: String) -> [String] {
        FileSystem.names(in: directory).filter { process($0) != nil }.sorted().map { "\(directory)/\($0)" }
            .filter { StreamSocket.isListening(at: $0) }
    }

    private static func process(_ name: String) -> pid_t? {
        guard name.hasPrefix(prefix), name.hasSuffix(suffix) else { return nil }
        return pid_t(name.dropFirst(prefix.count).dropLast(suffix.count))
    }

    private static func removeLeftovers(in directory: String) {
        for name in FileSystem.names(in: directory) {
            guard let process = process(name), kill(process, 0) < 0, errno == ESRCH else { continue }
            FileSystem.remove("\(directory)/\(name)")
        }
    }

    /// What was ordered, if the services ended for that. Nobody can ask any more.
    func close() -> Order? {
        let (order, thread) = state.withLock { state in
            state.isEnding = true
            defer { (state.order, state.thread) = (nil, nil) }
            return (state.order, state.thread)
        }
        FileSystem.remove(path)
        listener.shutDown()
        thread?.join()
        return order
    }

    private func serve() {
        do throws(Errno) {
            while true {
                guard let asker = try StreamSocket.accept(listener), StreamSocket.peerIsHost(asker) else { continue }
                try? asker.setTimeout(SO_RCVTIMEO, seconds: 2)
                guard let program = SuccessorProgram.named(by: asker) else { continue }
                do throws(Failure) {
                    try take(program, asker)
                    return
                } catch { UpgradeReply.refused(error.message ?? "no").send(to: asker) }
            }
        } catch {}
    }

    private func take(_ program: String, _ asker: Descriptor) throws(Failure) {
        guard keepsJournals else { throw Failure("the backend keeps no journals, so its frontends would have to connect anew") }
        let format = try SuccessorProgram.format(of: program, "backend")
        guard format == Self.format else {
            throw Failure("\(program): goes on with backends of format \(format), and this one's is \(Self.format)")
        }
        let isTaken = state.withLock { state in
            guard !state.isEnding else { return false }
            state.order = Order(program: program, asker: asker, heldAt: SystemTime().nanoseconds)
            return true
        }
        guard isTaken else { throw Failure("the backend is ending") }
        stop()
    }

    /// Becomes the program; returns only to fail, and has told whoever asked.
    /// - Parameters:
    ///   - left: front ends that were put by.
    ///   - keeper: who keeps what they need; nil: it goes along.
    static func become(_ order: Order, _ left: [LeftDevice], _ keeper: KeeperLink?, in directory: RunDirectory) {
        var own = OwnArguments(of: "backend")
        // Who read the error nodes has long been told.
        own.remove("--attach-errors-in-store", values: 0)
        do throws(Failure) {
            if let keeper { return try keeper.succeed(order.program, own.words, order.asker, order.heldAt) }
            let file = "\(directory)/succession-\(getpid()).json"
            var kept = [order.asker]
            let devices = left.map { device in
                ExportSuccession.Device(device) {
                    kept.append($0)
                    return $0.rawValue
                }
            }
            let succession = ExportSuccession(heldAt: order.heldAt, directory, asker: order.asker.rawValue, devices)
            try succession.write(to: file, for: "backend")
            let error = ChildProcess.succeed(
                program: order.program, arguments: own.adding(Export.resumeOption, file), keeping: kept)
            FileSystem.remove(file)
            throw Failure("\(order.program): \(error)")
        } catch { UpgradeReply.refused(error.message ?? "no").send(to: order.asker) }
    }
}
