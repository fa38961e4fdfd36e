// One child process: started with a clean signal state, signalled and reaped by its number. Only direct children, so that a number
// never means anybody else's process: it stays taken until it is reaped here.

import CLinux
import FoundationEssentials
import Glibc

/// How a process ended.
enum ExitStatus: Equatable, CustomStringConvertible {
    case exited(Int32)
    case signalled(Int32)

    /// From `waitpid`'s word (the W… macros are not importable).
    init(waitStatus: Int32) {
        self = waitStatus & 0x7F == 0 ? .exited(waitStatus >> 8 & 0xFF) : .signalled(waitStatus & 0x7F)
    }

    /// The status that a shell would report.
    var shellStatus: Int32 {
        switch self {
        case .exited(let status): status
        case .signalled(let number): 128 + number
        }
    }

    var description: String {
        switch self {
        case .exited(let status): "exited with status \(status)"
        case .signalled(let number): "was killed by signal \(number)"
        }
    }
}

/// A child of this process.
struct ChildProcess {
    let process: pid_t
    private let leadsGroup: Bool

    /// Starts `arguments[0]` (searched in the PATH if it has no slash).
    /// - Parameter ownGroup: puts the child into a process group of its own, so that a terminal's ^C does not reach it and that `signal`
    ///   reaches what it starts.
    /// - Parameter output: what becomes its stdout; ours if nil.
    static func start(
        _ arguments: [String], adding variables: [String: String] = [:], ownGroup: Bool, output: Int32? = nil
    ) throws(Failure) -> ChildProcess {
        let name = arguments.first ?? ""
        var attributes = posix_spawnattr_t()
        unsafe posix_spawnattr_init(&attributes)
        defer { unsafe posix_spawnattr_destroy(&attributes) }
        var nothing = Signals.makeSet([])
        var defaults = Signals.makeSet(Signals.termination + [SIGPIPE, SIGCHLD])
        unsafe posix_spawnattr_setsigmask(&attributes, &nothing)
        unsafe posix_spawnattr_setsigdefault(&attributes, &defaults)
        unsafe posix_spawnattr_setpgroup(&attributes, 0)
        var flags = POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF
        if ownGroup { flags |= POSIX_SPAWN_SETPGROUP }
        unsafe posix_spawnattr_setflags(&attributes, Int16(flags))

        var files = unsafe posix_spawn_file_actions_t()
        unsafe posix_spawn_file_actions_init(&files)
        defer { unsafe posix_spawn_file_actions_destroy(&files) }
        if let output {
            unsafe posix_spawn_file_actions_adddup2(&files, output, 1)
            unsafe posix_spawn_file_actions_addclose(&files, output)
        }

        let environment = ProcessInfo.processInfo.environment.merging(variables) { $1 }.map { "\($0)=\($1)" }
        var process: pid_t = 0
        let result = unsafe withCStrings(arguments) { argv in
            unsafe withCStrings(environment) { envp in
                unsafe posix_spawnp(&process, name, &files, &attributes, argv, envp)
            }
        }
        guard result == 0 else { throw Failure("\(name): cannot start it: \(systemMessage(result))") }
        return ChildProcess(process: process, leadsGroup: ownGroup)
    }

    /// Sends a signal to the child, and to its group if it leads one.
    func signal(_ number: Int32) { _ = kill(leadsGroup ? -process : process, number) }

    /// How it ended; nil while it runs. Must not be called again once it has said so.
    func reap() -> ExitStatus? {
        var status: Int32 = 0
        let result = unsafe waitpid(process, &status, WNOHANG)
        if result == process { return ExitStatus(waitStatus: status) }
        return result < 0 && errno == ECHILD ? .exited(0) : nil
    }

    /// As `reap()`; what the child left running in its own group is asked to end, too. While it is not reaped its number, which is the
    /// group's, is nobody else's.
    func reapWithGroup() -> ExitStatus? {
        var information = unsafe siginfo_t()
        let result = unsafe waitid(P_PID, id_t(process), &information, WEXITED | WNOHANG | WNOWAIT)
        if unsafe leadsGroup && result == 0 && information.si_signo == SIGCHLD { _ = kill(-process, SIGTERM) }
        return reap()
    }

    /// Waits for its end, however long it takes.
    func wait() -> ExitStatus {
        while true {
            if let status = reap() { return status }
            usleep(2000)
        }
    }

    /// Asks it to end, and kills it if it has not after `milliseconds`; returns when it is gone.
    @discardableResult func stop(milliseconds: Int) -> ExitStatus {
        signal(SIGTERM)
        let end = ContinuousClock.now + .milliseconds(milliseconds)
        var isKilled = false
        while true {
            if let status = reap() { return status }
            if !isKilled && ContinuousClock.now >= end {
                signal(SIGKILL)
                isKilled = true
            }
            usleep(2000)
        }
    }

    /// Makes the kernel end this process when `parent`, which started it, ends.
    static func followParent(_ parent: pid_t) throws(Failure) {
        guard causeway_die_with_parent(SIGTERM) == 0 else { throw Failure("prctl: \(systemMessage(errno))") }
        // The parent may have ended before the request; then no signal will come.
        guard getppid() == parent else { throw .silent(1) }
    }

    /// Becomes `arguments`, found in the PATH as `program`; returns only to fail.
    static func replace(program: String, arguments: [String]) throws(Failure) -> Never {
        Signals.unblockAll()
        _ = unsafe withCStrings(arguments) { argv in unsafe execvp(program, argv) }
        throw Failure("\(program): cannot run it: \(systemMessage(errno))")
    }
}

/// The C library's words for an error number.
func systemMessage(_ number: Int32) -> String {
    guard let text = unsafe strerror(number) else { return "error \(number)" }
    return unsafe String(cString: text)
}

/// Lends `strings` as the NULL-terminated array that exec and spawn take.
@unsafe private func withCStrings<R>(
    _ strings: [String], _ body: ([UnsafeMutablePointer<CChar>?]) throws -> R
) rethrows -> R {
    let copies = unsafe strings.map { unsafe strdup($0) }
    defer { unsafe copies.forEach { unsafe free($0) } }
    return try unsafe body(copies + [nil])
}
