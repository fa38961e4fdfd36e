// Waiting on descriptors from control threads. Data paths wait in the reactor's io_uring instead.

import CLinux
import Glibc

/// Waits until `descriptor` can be read, at most `milliseconds` (negative: for ever); false on time-out.
/// A hang-up counts as readable: the read that follows tells which.
public func waitReadable(_ descriptor: Int32, milliseconds: Int32) throws(Errno) -> Bool {
    var entry = pollfd(fd: descriptor, events: Int16(POLLIN), revents: 0)
    // SAFETY: the kernel fills in the one entry.
    return try retryingInterrupts { unsafe poll(&entry, 1, milliseconds) } > 0
}

/// Waits until `descriptor` can be written, at most `milliseconds` (negative: for ever); false on time-out.
package func waitWritable(_ descriptor: Int32, milliseconds: Int32) throws(Errno) -> Bool {
    var entry = pollfd(fd: descriptor, events: Int16(POLLOUT), revents: 0)
    // SAFETY: the kernel fills in the one entry.
    return try retryingInterrupts { unsafe poll(&entry, 1, milliseconds) } > 0
}

/// Waits for events on many descriptors, at most `milliseconds` (negative: for ever); fills in what happened, and
/// returns on how many of them.
@discardableResult
package func waitForEvents(_ entries: inout [pollfd], milliseconds: Int32) throws(Errno) -> Int {
    let count = nfds_t(entries.count)
    // SAFETY: the kernel fills in as many entries as there are.
    return Int(
        try retryingInterrupts {
            unsafe entries.withUnsafeMutableBufferPointer { unsafe poll($0.baseAddress, count, milliseconds) }
        })
}

/// One-way wake-up: a non-blocking pipe. Whoever holds only the write end can neither eat nor block a notification,
/// which an eventfd, being two-way, cannot promise.
public struct WakePipe: Sendable {
    /// The end that is waited on and drained.
    public let reader: Descriptor
    /// The end that is written to notify.
    public let writer: Descriptor

    /// Makes a pipe of one page, so that one read drains it.
    public init() throws(Errno) {
        var pair: (Int32, Int32) = (-1, -1)
        // SAFETY: the call writes two numbers, and there is room for two.
        let result = unsafe withUnsafeMutableBytes(of: &pair) { bytes in
            unsafe causeway_pipe(bytes.bindMemory(to: Int32.self).baseAddress, 4096)
        }
        if result < 0 { throw Errno.current }
        reader = Descriptor(owning: pair.0)
        writer = Descriptor(owning: pair.1)
    }
}

extension WakePipe {
    /// Waits until something is so, looking again whenever the pipe is notified, and each second in case another waiter
    /// took that.
    /// - Parameters:
    ///   - milliseconds: how long at most.
    ///   - time: what that is measured by.
    ///   - isSo: asked at least once; what it throws ends the wait.
    /// - Returns: false if the time is over.
    package func wait<Failure: Error>(
        milliseconds: Int32, _ time: any TimeSource, until isSo: () throws(Failure) -> Bool
    ) throws(Failure) -> Bool {
        let deadline = time.milliseconds + Int64(milliseconds)
        while true {
            if try isSo() { return true }
            let left = deadline - time.milliseconds
            guard left > 0 else { return false }
            _ = try? waitReadable(reader.rawValue, milliseconds: Int32(min(left, 1000)))
            drainPipe(reader)
        }
    }
}

/// Writes one byte; a full pipe counts as "already pending", a closed one as nobody there.
public func signalPipe(_ writer: Descriptor) {
    var byte: UInt8 = 1
    // Interrupted, or the kernel is short of memory for the moment: whoever waits must hear of it all the same. The
    // bound is there only because this function must not be where a thread stays.
    for _ in 0..<1000 {
        // SAFETY: the kernel reads the one byte.
        let count = unsafe Glibc.write(writer.rawValue, &byte, 1)
        if count == 1 || errno != EINTR && errno != ENOMEM && errno != ENOBUFS { return }
    }
}

/// Takes every pending byte; true if there was one.
@discardableResult
public func drainPipe(_ reader: Descriptor) -> Bool {
    var any = false
    while true {
        // SAFETY: the kernel writes no more than there is room for; nobody looks at what.
        let count = unsafe withUnsafeTemporaryAllocation(byteCount: 4096, alignment: 8) { buffer in
            unsafe Glibc.read(reader.rawValue, buffer.baseAddress, 4096)
        }
        if count > 0 { any = true }
        if count < 4096 && !(count < 0 && errno == EINTR) { return any }
    }
}

/// Waits until either descriptor can be read, at most `milliseconds` (negative: for ever); false on time-out.
public func waitReadable(_ first: Int32, _ second: Int32, milliseconds: Int32) throws(Errno) -> Bool {
    // poll(2) ignores a negative descriptor.
    try waitReadable(first, second, -1, milliseconds: milliseconds)
}

/// Waits until one of three descriptors can be read, at most `milliseconds` (negative: for ever); false on time-out.
public func waitReadable(_ first: Int32, _ second: Int32, _ third: Int32, milliseconds: Int32) throws(Errno) -> Bool {
    var entries: InlineArray<3, pollfd> = [
        pollfd(fd: first, events: Int16(POLLIN), revents: 0), pollfd(fd: second, events: Int16(POLLIN), revents: 0),
        pollfd(fd: third, events: Int16(POLLIN), revents: 0),
    ]
    // SAFETY: the kernel fills in the three entries.
    return try retryingInterrupts {
        unsafe withUnsafeMutableBytes(of: &entries) { bytes in
            unsafe poll(bytes.bindMemory(to: pollfd.self).baseAddress, 3, milliseconds)
        }
    } > 0
}

/// Offers the processor to whoever else is ready to run on it (`sched_yield(2)`).
public func yieldProcessor() { sched_yield() }
