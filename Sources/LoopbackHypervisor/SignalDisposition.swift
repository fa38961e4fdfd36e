// A pipe whose reader has died answers a write with SIGPIPE, and MSG_NOSIGNAL is for sockets only.

import Glibc

/// Ignores SIGPIPE, unless the program has already decided what to do about it: ringing a peer that was just killed must cost
/// an EPIPE, not this process.
func ignoreBrokenPipes() {
    var current = sigaction()
    guard unsafe sigaction(SIGPIPE, nil, &current) == 0 else { return }
    let isDefault = unsafe current.__sigaction_handler.sa_handler == nil
    if isDefault { _ = signal(SIGPIPE, SIG_IGN) }
}
