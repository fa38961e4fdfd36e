// What outlives a process that serves, in the one that starts it again: the descriptors that it has asked to have kept,
// and what is known of it.

import CommandSupport
import Glibc
import LinuxSystem
import Synchronization

/// A process that serves, or will, and the thread that does what it says.
struct KeptWorker: Sendable {
    let process: ChildProcess
    fileprivate let reader: WorkerThread
    fileprivate let turn: Monitor<Turn>

    /// Whether it may have what is kept.
    fileprivate enum Turn {
        case isToCome
        case isNow
        /// It has ended.
        case isOver
    }

    /// It is its turn.
    func begin() { turn.change { $0 = .isNow } }

    /// It has ended: waits until all that it has said has been read. It may have been killed right after.
    func finish() {
        // What one has said that has never had its turn is nobody's business.
        turn.change { turn in if turn == .isToCome { turn = .isOver } }
        reader.join()
    }
}

/// What is kept for one process after another. Shared with the threads that read what those say.
final class KeptDescriptors: Sendable {
    private struct State {
        var table: [Int32: (name: String, descriptor: Descriptor)] = [:]
        var next: Int32 = 0
        /// The process that serves said that it does, and what COMMAND is to see.
        var variables: [String: String]?
        /// When it said so, nanoseconds.
        var readyAt: UInt64 = 0
        /// When the one before it ended, until that was told.
        var endedAt: UInt64?
        /// How often one has said so.
        var readyCount = 0
        /// Its program.
        var program: String?
        /// What ended the one before it.
        var signal: Int32 = 0
    }
    private let state = Mutex(State())

    /// What COMMAND is to see; nil: nobody serves at present.
    var variables: [String: String]? { state.withLock(\.variables) }

    /// The program that has served last; nil: none, or one that is not to be tried again.
    var program: String? { state.withLock(\.program) }

    /// How often a process has said that it serves.
    var readyCount: Int { state.withLock(\.readyCount) }

    /// Starts a process that serves.
    /// - Parameters:
    ///   - isSpare: whether it only makes itself ready, and waits for its turn.
    ///   - start: is given what becomes its descriptor 3.
    func start(
        isSpare: Bool = false, _ start: (Descriptor) throws(Failure) -> ChildProcess
    ) throws(Failure) -> KeptWorker {
        let turn = Monitor(isSpare ? KeptWorker.Turn.isToCome : .isNow)
        let ends: (own: Descriptor, theirs: Descriptor)
        let reader: WorkerThread
        do throws(Errno) {
            ends = try PacketSocket.pair()
            let own = ends.own
            reader = try WorkerThread(name: "keeper", blocksSignals: true) { self.serve(own, turn) }
        } catch { throw Failure("keeping descriptors: \(error)") }
        if !isSpare { state.withLock { $0.variables = nil } }
        do throws(Failure) { return KeptWorker(process: try start(ends.theirs), reader: reader, turn: turn) } catch {
            ends.own.shutDown()
            reader.join()
            throw error
        }
    }

    /// The process has ended, and all that it has said has been read. Whether it served.
    ///
    /// A program that ends before it serves is not tried again, and whoever asked for it is told.
    /// - Parameter what: what it serves as, for messages.
    func ended(_ status: ExitStatus, at nanoseconds: UInt64, _ what: String) -> Bool {
        let (wasServing, askers) = state.withLock { state in
            let wasServing = state.variables != nil
            state.variables = nil
            state.endedAt = state.endedAt ?? nanoseconds
            if case .signalled(let number) = status { state.signal = number }
            return (wasServing, wasServing ? [] : Self.takeAskers(&state))
        }
        for asker in askers {
            UpgradeReply.refused("the new program \(status) before it served; the \(what) goes on as the one before").send(
                to: asker)
        }
        return wasServing
    }

    /// Whoever waits for an upgrade that has come to nothing.
    private static func takeAskers(_ state: inout State) -> [Descriptor] {
        state.program = nil
        let askers = state.table.filter { $0.value.name.hasPrefix(KeeperMessage.Name.asker) }
        for number in askers.keys { state.table[number] = nil }
        return askers.values.map(\.descriptor)
    }

    /// Whether one has ended and the next does not serve yet.
    var isAwaited: Bool { state.withLock { $0.endedAt != nil } }

    /// For how many nanoseconds nobody served, once that is over; told once.
    func takePause() -> UInt64? {
        state.withLock { state in
            guard state.variables != nil, let endedAt = state.endedAt.take() else { return nil }
            return state.readyAt &- endedAt
        }
    }

    // MARK: What the process says

    /// Does what the process at `socket` says, until it is gone.
    private func serve(_ socket: Descriptor, _ turn: Monitor<KeptWorker.Turn>) {
        do throws(Errno) {
            while true {
                let (bytes, descriptors) = try PacketSocket.receive(socket, descriptors: 1)
                if bytes.isEmpty { return }
                // All that it says before is that it has begun.
                guard turn.wait({ $0 == .isToCome ? nil : $0 }) == .isNow else { return }
                try handle(KeeperMessage(bytes), descriptors.first, socket)
            }
        } catch {}
    }

    private func handle(_ message: KeeperMessage?, _ descriptor: Descriptor?, _ socket: Descriptor) throws(Errno) {
        switch message {
        case .hello:
            let (table, next, signal) = state.withLock { state in
                state.variables = nil
                return (state.table, state.next, state.signal)
            }
            for (number, entry) in table.sorted(by: { $0.key < $1.key }) {
                try PacketSocket.send(socket, KeeperMessage.have(number, name: entry.name).bytes, [entry.descriptor])
            }
            try PacketSocket.send(socket, KeeperMessage.end(next: next, signal: signal).bytes)
        case .hold(let number, let name):
            guard let descriptor else { return }
            state.withLock { state in
                state.table[number] = (name, descriptor)
                // Somebody waits for another program, which has not said anything yet.
                if name.hasPrefix(KeeperMessage.Name.asker) { state.variables = nil }
                state.next = max(state.next, number + 1)
            }
        case .drop(let numbers):
            // Closed when nobody waits for the lock.
            let dropped = state.withLock { state in numbers.compactMap { state.table.removeValue(forKey: $0) } }
            withExtendedLifetime(dropped) {}
        case .ready(let program, let variables):
            state.withLock { state in
                state.signal = 0
                state.readyCount += 1
                state.readyAt = SystemTime().nanoseconds
                (state.program, state.variables) = (program, variables)
            }
            // Wakes the thread that waits for children.
            _ = kill(getpid(), SIGCHLD)
        case .have, .end, nil: break
        }
    }
}
