// Waiting on descriptors from control threads. Data paths wait in the reactor's io_uring instead.

import CLinux
import Glibc

/// Waits until `descriptor` can be read, at most `milliseconds` (negative: for ever); false on time-out.
/// A hang-up counts as readable: the read that follows tells which.
public func waitReadable(_ descriptor: Int32, milliseconds: Int32) throws(Errno) -> Bool {
    var entry = pollfd(fd: descriptor, events: Int16(POLLIN), revents: 0)
    return try retryingInterrupts { unsafe poll(&entry, 1, milliseconds) } > 0
}

/// One-way wake-up: a non-blocking pipe. Whoever holds only the write end can neither eat nor block a notification, which an
/// eventfd, being two-way, cannot promise.
public struct WakePipe: Sendable {
    /// The end that is waited on and drained.
    public let reader: Descriptor
    /// The end that is written to notify.
    public let writer: Descriptor

    /// Makes a pipe of one page, so that one read drains it.
    public init() throws(Errno) {
        var pair: (Int32, Int32) = (-1, -1)
        let result = unsafe withUnsafeMutableBytes(of: &pair) { bytes in
            unsafe causeway_pipe(bytes.bindMemory(to: Int32.self).baseAddress, 4096)
        }
        if result < 0 { throw Errno.current }
        reader = Descriptor(owning: pair.0)
        writer = Descriptor(owning: pair.1)
    }
}

/// Writes one byte; a full pipe counts as "already pending", a closed one as nobody there.
public func signalPipe(_ writer: Descriptor) {
    var byte: UInt8 = 1
    _ = unsafe Glibc.write(writer.rawValue, &byte, 1)
}

/// Takes every pending byte; true if there was one.
@discardableResult
public func drainPipe(_ reader: Descriptor) -> Bool {
    var any = false
    while true {
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

/// Milliseconds of the monotonic clock: never set back, never stepped.
public func monotonicMilliseconds() -> Int64 {
    var now = timespec()
    _ = unsafe clock_gettime(CLOCK_MONOTONIC, &now)
    return Int64(now.tv_sec) * 1000 + Int64(now.tv_nsec) / 1_000_000
}

/// Nanoseconds of the monotonic clock.
public func monotonicNanoseconds() -> UInt64 {
    var now = timespec()
    _ = unsafe clock_gettime(CLOCK_MONOTONIC, &now)
    return UInt64(now.tv_sec) &* 1_000_000_000 &+ UInt64(now.tv_nsec)
}

/// Sleeps so many milliseconds; a signal may end it early.
public func sleepMilliseconds(_ count: Int64) {
    var time = timespec(tv_sec: Int(count / 1000), tv_nsec: Int(count % 1000) * 1_000_000)
    _ = unsafe nanosleep(&time, nil)
}

/// Waits until one of three descriptors can be read, at most `milliseconds` (negative: for ever); false on time-out.
public func waitReadable(_ first: Int32, _ second: Int32, _ third: Int32, milliseconds: Int32) throws(Errno) -> Bool {
    var entries: InlineArray<3, pollfd> = [
        pollfd(fd: first, events: Int16(POLLIN), revents: 0), pollfd(fd: second, events: Int16(POLLIN), revents: 0),
        pollfd(fd: third, events: Int16(POLLIN), revents: 0),
    ]
    return try retryingInterrupts {
        unsafe withUnsafeMutableBytes(of: &entries) { bytes in
            unsafe poll(bytes.bindMemory(to: pollfd.self).baseAddress, 3, milliseconds)
        }
    } > 0
}

/// Offers the processor to whoever else is ready to run on it (`sched_yield(2)`).
public func yieldProcessor() { sched_yield() }
