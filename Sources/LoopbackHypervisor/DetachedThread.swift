// A thread that nobody joins: a client's listener, which may itself be the last to let go of the client.

import Glibc

/// Starts a detached thread that runs `body`; false if the system has no room for it.
func startThread(_ body: @escaping @Sendable () -> Void) -> Bool {
    var thread = pthread_t()
    let box = unsafe Unmanaged.passRetained(ThreadBody(body))
    // SAFETY: the box is retained for the thread, which takes that reference over; if there is no thread it is given back here.
    let result = unsafe pthread_create(&thread, nil, threadEntry, box.toOpaque())
    guard result == 0 else {
        unsafe box.release()
        return false
    }
    pthread_detach(thread)
    return true
}

private final class ThreadBody {
    let run: @Sendable () -> Void
    init(_ run: @escaping @Sendable () -> Void) { self.run = run }
}

// A plain function: a closure literal would belong to whatever actor it was written in.
private nonisolated func threadEntry(_ argument: UnsafeMutableRawPointer?) -> UnsafeMutableRawPointer? {
    if let argument = unsafe argument {
        let body = unsafe Unmanaged<ThreadBody>.fromOpaque(argument).takeRetainedValue()
        body.run()
    }
    return nil
}
