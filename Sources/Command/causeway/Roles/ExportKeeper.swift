// An export that outlives the process that serves it: this one serves nothing, and so has no reason to end. It holds
// the descriptors and the records of the devices, starts the process that serves, and starts it again when that has
// ended.

import CommandSupport
import Glibc
import LinuxSystem

/// Starts the process that serves, again and again.
struct ExportKeeper: ~Copyable {
    private let directory: PairDirectory
    private let command: [String]
    private let kept = KeptDescriptors()
    private var worker: KeptWorker?
    private var spare = SpareWorker()
    private var policy = RestartPolicy()
    private var child: ChildProcess?
    /// Whether one has served yet.
    private var hasServed = false

    /// How long the process that serves may take to end.
    private static let patienceMilliseconds = 10_000
    /// This process's own program, whatever is at its path by now.
    private static let ownProgram = "/proc/self/exe"

    init(in directory: PairDirectory, _ command: [String]) {
        self.directory = directory
        self.command = command
    }

    deinit {
        var spare = spare
        spare.end()
        if let worker {
            worker.process.stop(milliseconds: Self.patienceMilliseconds)
            worker.finish()
        }
        directory.remove()
    }

    /// Serves until COMMAND has ended, or without one until it is interrupted; the status to end with.
    mutating func run() throws(Failure) -> Int32 {
        try start(Self.ownProgram)
        while true {
            let signal = Signals.wait(for: Signals.termination + [SIGCHLD], milliseconds: hasServed && !kept.isAwaited ? 1000 : 5)
            if let child, let status = child.reapWithGroup() { return status.shellStatus }
            if let status = try lookAfterWorker() { return status }
            try startCommand()
            let (directory, program) = (directory, kept.program ?? Self.ownProgram)
            spare.lookAfter(kept) { (end) throws(Failure) in try Self.spawn(in: directory, end, program) }
            guard let signal, signal != SIGCHLD else { continue }
            guard let child else { return 0 }
            child.signal(signal)
        }
    }

    private mutating func startCommand() throws(Failure) {
        guard let variables = kept.variables else { return }
        if let pause = kept.takePause() {
            note("export: goes on: front ends have waited for \(inMilliseconds(pause))")
        }
        guard !hasServed else { return }
        hasServed = true
        if !command.isEmpty { child = try ChildProcess.startProgram(command, adding: variables, ownGroup: isatty(0) == 0) }
    }

    private mutating func start(_ program: String) throws(Failure) {
        let directory = directory
        worker = try kept.start { (end) throws(Failure) in try Self.spawn(in: directory, end, program) }
        policy.started()
    }

    private static func spawn(
        in directory: PairDirectory, _ end: Descriptor, _ program: String
    ) throws(Failure) -> ChildProcess {
        try ChildProcess.start(
            OwnArguments(of: "export").ofWorker(in: directory.run.path), ownGroup: true, passing: end, program: program)
    }

    /// Starts another one when the one that served has ended; the status to end with, if that has no sense.
    private mutating func lookAfterWorker() throws(Failure) -> Int32? {
        if let worker, let status = worker.process.reap() {
            let now = SystemTime().nanoseconds
            self.worker = nil
            worker.finish()
            // One that ends by itself has said why; one that is killed could not.
            let wasServing = kept.ended(status, at: now, "export")
            if case .exited = status, !hasServed, !wasServing { return status.shellStatus }
            complain("export: the process that serves \(status)\(wasServing ? "" : ", before it served")")
            policy.ended(status, wasOfUse: wasServing)
            if policy.isExhausted { throw Failure("export: it ends again and again; it is not started any more") }
        }
        guard worker == nil, policy.isDue else { return nil }
        if let spare = spare.take(kept) {
            worker = spare
            policy.started()
        } else {
            try start(kept.program ?? Self.ownProgram)
        }
        return nil
    }
}
