// Ringing inside a program that is not ours, whose signals are its own.

import Glibc

/// As `signalPipe`, without SIGPIPE and without a change of what the process does about it: the signal is blocked in
/// this thread for as long as the write takes, and taken if it came of it.
/// - Returns: false if nobody reads any more.
package func signalPipeQuietly(_ writer: Descriptor) -> Bool {
    var signal = Signals.makeSet([SIGPIPE])
    var before = sigset_t()
    // SAFETY: every set and time that a call is given here is a variable of this function; no call keeps any.
    unsafe pthread_sigmask(SIG_BLOCK, &signal, &before)
    // One that was pending already is not ours to take. It can be only if this thread had it blocked.
    var wasPending = false
    if unsafe sigismember(&before, SIGPIPE) == 1 {
        var pending = sigset_t()
        wasPending = unsafe sigpending(&pending) == 0 && sigismember(&pending, SIGPIPE) == 1
    }
    let isHeard = writeByte(writer)
    if !isHeard && !wasPending {
        var none = timespec()
        while unsafe sigtimedwait(&signal, nil, &none) < 0 && errno == EINTR {}
    }
    unsafe pthread_sigmask(SIG_SETMASK, &before, nil)
    return isHeard
}

/// False for EPIPE.
private func writeByte(_ writer: Descriptor) -> Bool {
    var byte: UInt8 = 1
    // As in `signalPipe`: what passes is tried again, not for ever.
    for _ in 0..<1000 {
        // SAFETY: the kernel reads the one byte.
        if unsafe Glibc.write(writer.rawValue, &byte, 1) == 1 { return true }
        if errno == EPIPE { return false }
        guard errno == EINTR || errno == ENOMEM || errno == ENOBUFS else { return true }
    }
    return true
}
