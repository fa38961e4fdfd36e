// A backend that becomes another build of itself while its frontends wait a moment: it ends what is in work, leaves its
// rings in the journals as a killed one does, and becomes the new program, with the same number. What says no before
// that costs nobody anything; where the exec fails the old program goes on with its own journals.

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
    static let format = 1
    /// Names who waits to hear that it was done, and since when: `DESCRIPTOR:NANOSECONDS`.
    static let option = "--upgraded"
    private static let prefix = "backend-"
    private static let suffix = ".upgrade"

    private let path: String
    private let listener: Descriptor
    private let keepsJournals: Bool
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
    static func become(_ order: Order) {
        let asked = "\(order.asker.rawValue):\(order.heldAt)"
        let error = ChildProcess.succeed(program: order.program, arguments: arguments(adding: asked), keeping: [order.asker])
        UpgradeReply.refused("\(order.program): \(error)").send(to: order.asker)
    }

    /// This process's own, with whom to tell.
    private static func arguments(adding asked: String) -> [String] {
        var own = CommandLine.arguments
        if let place = own.firstIndex(of: option), place + 1 < own.count { own.removeSubrange(place...place + 1) }
        // Who read the error nodes has long been told.
        own.removeAll { $0 == "--attach-errors-in-store" }
        let place = own.firstIndex(of: "backend").map { $0 + 1 } ?? 1
        own.insert(contentsOf: [option, asked], at: place)
        return own
    }

    /// Tells whoever asked for it that every device is served again.
    /// - Parameter asked: as `option` has it.
    static func done(_ asked: String) {
        let parts = asked.split(separator: ":")
        guard parts.count == 2, let descriptor = Int32(parts[0]), descriptor > 2, let heldAt = UInt64(parts[1]) else { return }
        let asker = Descriptor(owning: descriptor)
        UpgradeReply.done(nanoseconds: SystemTime().nanoseconds &- heldAt, version: causewayVersion).send(to: asker)
    }
}
