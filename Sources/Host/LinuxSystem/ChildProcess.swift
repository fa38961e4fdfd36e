// One child process: started with a clean signal state, signalled and reaped by its number. Only direct children, so
// that a number never means anybody else's process: it stays taken until it is reaped here.

import CLinux
import Glibc

/// A child of this process.
package struct ChildProcess: Sendable {
    /// Its number.
    package let process: pid_t
    /// Whether signals for it reach what it starts.
    package let leadsGroup: Bool
    private let time: any TimeSource

    /// Starts `arguments[0]` (searched in the PATH if it has no slash).
    /// - Parameters:
    ///   - variables: what its environment has beside this process's, or in place of it.
    ///   - ownGroup: puts the child into a process group of its own, so that a terminal's ^C does not reach it and that
    ///     `signal` reaches what it starts.
    ///   - output: what becomes its stdout; ours if nil.
    ///   - isOurs: whether the program is this project's, which can have as many files open as this process.
    ///   - passing: what becomes its descriptor 3.
    ///   - program: what is run under the name of `arguments[0]`; that itself if nil.
    ///   - time: by which its end is waited for.
    package static func spawn(
        _ arguments: [String], adding variables: [String: String] = [:], ownGroup: Bool, output: Descriptor? = nil,
        isOurs: Bool = true, passing: Descriptor? = nil, program: String? = nil, time: some TimeSource
    ) throws(Errno) -> ChildProcess {
        // SAFETY: both are made before anything is set in them, and unmade on every way out.
        var attributes = posix_spawnattr_t()
        var files = unsafe posix_spawn_file_actions_t()
        unsafe posix_spawnattr_init(&attributes)
        defer { unsafe posix_spawnattr_destroy(&attributes) }
        unsafe posix_spawn_file_actions_init(&files)
        defer { unsafe posix_spawn_file_actions_destroy(&files) }
        clean(&attributes, ownGroup: ownGroup)
        if let output {
            unsafe posix_spawn_file_actions_adddup2(&files, output.rawValue, 1)
            unsafe posix_spawn_file_actions_addclose(&files, output.rawValue)
        }
        // One that has the number already only loses its mark to be closed.
        if let passing { unsafe posix_spawn_file_actions_adddup2(&files, passing.rawValue, 3) }
        var process: pid_t = 0
        // SAFETY: the strings are there during the call, which copies what it needs.
        let begin = {
            unsafe withCStrings(arguments) { argv in
                unsafe withCStrings(environment(adding: variables)) { envp in
                    unsafe posix_spawnp(&process, program ?? arguments.first ?? "", &files, &attributes, argv, envp)
                }
            }
        }
        let result = isOurs ? begin() : ResourceLimits.withOriginalOpenFiles(begin)
        guard result == 0 else { throw Errno(result) }
        began(process, leadsGroup: ownGroup)
        return ChildProcess(process: process, leadsGroup: ownGroup, time: time)
    }

    /// No signal is blocked or ignored in the child.
    private static func clean(_ attributes: inout posix_spawnattr_t, ownGroup: Bool) {
        var nothing = Signals.makeSet([])
        var defaults = Signals.makeSet(Signals.termination + [SIGPIPE, SIGCHLD])
        // SAFETY: the sets are copied.
        unsafe posix_spawnattr_setsigmask(&attributes, &nothing)
        unsafe posix_spawnattr_setsigdefault(&attributes, &defaults)
        unsafe posix_spawnattr_setpgroup(&attributes, 0)
        let flags = POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF | (ownGroup ? POSIX_SPAWN_SETPGROUP : 0)
        unsafe posix_spawnattr_setflags(&attributes, Int16(flags))
    }

    /// This process's environment with `variables` in it.
    private static func environment(adding variables: [String: String]) -> [String] {
        var all = variables.map { "\($0)=\($1)" }
        // SAFETY: the list ends with a null pointer, and nobody changes it meanwhile: nothing of ours calls setenv or
        // putenv.
        guard var place = unsafe causeway_environment() else { return all }
        while let entry = unsafe place.pointee {
            let text = unsafe String(cString: entry)
            if variables[String(text.prefix { $0 != "=" })] == nil { all.append(text) }
            unsafe place += 1
        }
        return all
    }

    /// Sends a signal to the child, and to its group if it leads one.
    package func signal(_ number: Int32) { _ = kill(leadsGroup ? -process : process, number) }

    /// How it ended; nil while it runs. Must not be called again once it has said so.
    package func reap() -> ExitStatus? {
        Self.reaping(process) {
            var status: Int32 = 0
            // SAFETY: the call fills in the number.
            let result = unsafe waitpid(process, &status, WNOHANG)
            if result == process { return ExitStatus(waitStatus: status) }
            return result < 0 && errno == ECHILD ? .exited(0) : nil
        }
    }

    /// As `reap()`; what the child left running in its own group is asked to end, too. While it is not reaped its
    /// number, which is the group's, is nobody else's.
    package func reapWithGroup() -> ExitStatus? {
        // SAFETY: the call fills in the structure; only a number of it is looked at.
        var information = unsafe siginfo_t()
        let result = unsafe waitid(P_PID, id_t(process), &information, WEXITED | WNOHANG | WNOWAIT)
        if unsafe leadsGroup && result == 0 && information.si_signo == SIGCHLD { _ = kill(-process, SIGTERM) }
        return reap()
    }

    /// Waits for its end, however long it takes.
    package func wait() -> ExitStatus {
        while true {
            if let status = reap() { return status }
            time.sleep(milliseconds: 2)
        }
    }

    /// Waits for its end, at most `milliseconds`; nil if it runs on.
    package func wait(milliseconds: Int) -> ExitStatus? {
        let end = time.milliseconds + Int64(milliseconds)
        while true {
            if let status = reap() { return status }
            if time.milliseconds >= end { return nil }
            time.sleep(milliseconds: 2)
        }
    }

    /// Asks it to end, and kills it if it has not after `milliseconds`; returns when it is gone.
    @discardableResult package func stop(milliseconds: Int) -> ExitStatus {
        signal(SIGTERM)
        if let status = wait(milliseconds: milliseconds) { return status }
        signal(SIGKILL)
        return wait()
    }

    /// Makes the kernel end this process when `parent`, which started it, ends; false if that has happened.
    package static func followParent(_ parent: pid_t) throws(Errno) -> Bool {
        try retryingInterrupts { causeway_die_with_parent(SIGTERM) }
        // The parent may have ended before the request; then no signal will come.
        return getppid() == parent
    }

    /// Becomes `arguments`, whose program is `program`, with the same number, children and blocked signals, and with
    /// `descriptors`, which keep their numbers; returns only to fail, with everything as it was.
    package static func succeed(program: String, arguments: [String], keeping descriptors: [Descriptor]) -> Errno {
        for descriptor in descriptors { _ = fcntl(descriptor.rawValue, F_SETFD, 0) }
        defer { for descriptor in descriptors { _ = fcntl(descriptor.rawValue, F_SETFD, FD_CLOEXEC) } }
        // SAFETY: the strings are there until the call fails; if it succeeds this memory is gone as a whole.
        _ = unsafe withCStrings(arguments) { argv in
            unsafe withCStrings(environment(adding: [:])) { envp in unsafe causeway_exec(program, argv, envp) }
        }
        return Errno.current
    }

    /// Becomes `arguments`, found in the PATH as `program`, with a terminal's signals as they are by default; returns
    /// only to fail.
    /// - Parameter variables: what its environment has beside this process's, or in place of it.
    package static func replace(program: String, arguments: [String], adding variables: [String: String] = [:]) -> Errno {
        Signals.unblockAll()
        for number in [SIGPIPE] + Signals.termination { _ = Glibc.signal(number, SIG_DFL) }
        // SAFETY: the strings are there until the call fails; if it succeeds this memory is gone as a whole.
        _ = unsafe withCStrings(arguments) { argv in
            unsafe withCStrings(environment(adding: variables)) { envp in unsafe causeway_exec(program, argv, envp) }
        }
        return Errno.current
    }
}

extension ChildProcess {
    /// A child that this process had before it became the program that it is now.
    package init(adopting process: pid_t, leadsGroup: Bool, time: some TimeSource) {
        self.init(process: process, leadsGroup: leadsGroup, time: time)
        Self.began(process, leadsGroup: leadsGroup)
    }
}

/// Lends `strings` as the NULL-terminated array that exec and spawn take.
@unsafe func withCStrings<R>(
    _ strings: [String], _ body: ([UnsafeMutablePointer<CChar>?]) throws -> R
) rethrows -> R {
    // SAFETY: the copies are freed when `body` is done with them.
    let copies = unsafe strings.map { unsafe strdup($0) }
    defer { unsafe copies.forEach { unsafe free($0) } }
    return try unsafe body(copies + [nil])
}

extension ChildProcess {
    /// This process's own number.
    package static var own: Int32 { getpid() }
}
