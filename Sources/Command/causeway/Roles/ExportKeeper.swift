// An export that outlives the process that serves it: this one serves nothing, and so has no reason to end. It holds
// the descriptors and the records of the devices, starts the process that serves, and starts it again when that has
// ended.

import CommandSupport
import Glibc
import LinuxSystem
import Synchronization

/// What is kept, and what is known of the process that serves. Shared with the thread that reads what that says.
private final class KeptDescriptors: Sendable {
    struct State {
        var table: [Int32: (name: String, descriptor: Descriptor)] = [:]
        var next: Int32 = 0
        /// The process that serves said that it does, and what COMMAND is to see.
        var variables: [String: String]?
        /// When it said so, nanoseconds.
        var readyAt: UInt64 = 0
        /// Its program.
        var program: String?
        /// What ended the one before it.
        var signal: Int32 = 0
    }
    let state = Mutex(State())

    /// Does what the process at `socket` says, until it is gone.
    func serve(_ socket: Descriptor) {
        do throws(Errno) {
            while true {
                let (bytes, descriptors) = try PacketSocket.receive(socket, descriptors: 1)
                if bytes.isEmpty { return }
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
                state.readyAt = SystemTime().nanoseconds
                (state.program, state.variables) = (program, variables)
            }
        case .have, .end, nil: break
        }
    }

    /// Whoever waits for an upgrade that has come to nothing.
    func takeAskers() -> [Descriptor] {
        state.withLock { state in
            let askers = state.table.filter { $0.value.name.hasPrefix(KeeperMessage.Name.asker) }
            for number in askers.keys { state.table[number] = nil }
            return askers.values.map(\.descriptor)
        }
    }
}

/// Starts the process that serves, again and again.
struct ExportKeeper: ~Copyable {
    private let directory: PairDirectory
    private let command: [String]
    private let isQuiet: Bool
    private let kept = KeptDescriptors()
    private var worker: (process: ChildProcess, reader: WorkerThread)?
    private var policy = RestartPolicy()
    private var child: ChildProcess?
    /// When the last one ended; nil: one serves.
    private var endedAt: UInt64?
    /// Whether one has served yet.
    private var hasServed = false

    /// How long the process that serves may take to end.
    private static let patienceMilliseconds = 10_000
    /// This process's own program, whatever is at its path by now.
    private static let ownProgram = "/proc/self/exe"

    init(in directory: PairDirectory, _ command: [String], isQuiet: Bool) {
        self.directory = directory
        self.command = command
        self.isQuiet = isQuiet
    }

    deinit {
        if let worker {
            worker.process.stop(milliseconds: Self.patienceMilliseconds)
            worker.reader.join()
        }
        directory.remove()
    }

    /// Serves until COMMAND has ended, or without one until it is interrupted; the status to end with.
    mutating func run() throws(Failure) -> Int32 {
        try start(Self.ownProgram)
        while true {
            let signal = Signals.wait(for: Signals.termination + [SIGCHLD], milliseconds: hasServed && endedAt == nil ? 1000 : 5)
            if let child, let status = child.reapWithGroup() { return status.shellStatus }
            if let status = try lookAfterWorker() { return status }
            try startCommand()
            guard let signal, signal != SIGCHLD else { continue }
            guard let child else { return 0 }
            child.signal(signal)
        }
    }

    private mutating func startCommand() throws(Failure) {
        let (found, readyAt) = kept.state.withLock { ($0.variables, $0.readyAt) }
        guard let variables = found else { return }
        if let endedAt {
            let tenths = (readyAt &- endedAt + 50_000) / 100_000
            if !isQuiet { complain("export: goes on: front ends have waited for \(tenths / 10).\(tenths % 10) ms") }
        }
        endedAt = nil
        guard !hasServed else { return }
        hasServed = true
        if !command.isEmpty { child = try ChildProcess.startProgram(command, adding: variables, ownGroup: isatty(0) == 0) }
    }

    private mutating func start(_ program: String) throws(Failure) {
        let ends: (Descriptor, Descriptor)
        let reader: WorkerThread
        let kept = kept
        do throws(Errno) {
            ends = try PacketSocket.pair()
            let own = ends.0
            reader = try WorkerThread(name: "keeper", blocksSignals: true) { kept.serve(own) }
        } catch { throw Failure("export: \(error)") }
        kept.state.withLock { $0.variables = nil }
        do throws(Failure) {
            let arguments = ExportArguments.own.ofWorker(in: directory.run.path)
            worker = (try ChildProcess.start(arguments, ownGroup: true, passing: ends.1, program: program), reader)
        } catch {
            ends.0.shutDown()
            reader.join()
            throw error
        }
        policy.started()
    }

    /// Starts another one when the one that served has ended; the status to end with, if that has no sense.
    private mutating func lookAfterWorker() throws(Failure) -> Int32? {
        if let worker, let status = worker.process.reap() {
            endedAt = endedAt ?? SystemTime().nanoseconds
            self.worker = nil
            // All that it has said has been read: it may have been killed right after.
            worker.reader.join()
            let (wasServing, program) = kept.state.withLock { ($0.variables != nil, $0.program) }
            // One that ends by itself has said why; one that is killed could not.
            if case .exited = status, !hasServed, !wasServing { return status.shellStatus }
            complain("export: the process that serves \(status)\(wasServing ? "" : ", before it served")")
            if case .signalled(let number) = status { kept.state.withLock { $0.signal = number } }
            policy.ended(status, wasOfUse: wasServing)
            if !wasServing { fallBack(status, program) }
            if policy.isExhausted { throw Failure("export: it ends again and again; it is not started any more") }
        }
        guard worker == nil, policy.isDue else { return nil }
        try start(kept.state.withLock { $0.program } ?? Self.ownProgram)
        return nil
    }

    /// A program that ends before it serves is not tried again: this process's own is known to serve.
    private func fallBack(_ status: ExitStatus, _ program: String?) {
        kept.state.withLock { $0.program = nil }
        for asker in kept.takeAskers() {
            UpgradeReply.refused("the new program \(status) before it served; the export goes on as the one before").send(to: asker)
        }
    }
}
