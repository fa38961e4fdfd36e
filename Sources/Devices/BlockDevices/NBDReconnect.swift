// How a server that is away is waited for, and what is said of it.

import LinuxSystem

/// How an NBD server that went away is waited for.
public struct NBDReconnect: Sendable, Equatable {
    /// Milliseconds that requests wait for it. Then they fail with EIO, as new ones do, until it is back. 0: nothing
    /// waits.
    public var delayMilliseconds: UInt64
    /// Milliseconds between the first two attempts; doubled for each further one.
    public var firstPauseMilliseconds: UInt64
    /// The longest pause between two attempts. They go on for as long as the disk is in use.
    public var longestPauseMilliseconds: UInt64
    /// Milliseconds for connecting and negotiating, each time.
    public var timeoutMilliseconds: Int32

    /// Half a minute in all, pauses from 100 ms to a second, five seconds for each attempt.
    public init(
        delayMilliseconds: UInt64 = 30_000, firstPauseMilliseconds: UInt64 = 100, longestPauseMilliseconds: UInt64 = 1000,
        timeoutMilliseconds: Int32 = 5000
    ) {
        self.delayMilliseconds = delayMilliseconds
        self.firstPauseMilliseconds = firstPauseMilliseconds
        self.longestPauseMilliseconds = longestPauseMilliseconds
        self.timeoutMilliseconds = timeoutMilliseconds
    }
}

/// A server's absence, as its disk's log tells it: once that it is gone, once that it is back, whatever the number of
/// connections.
struct NBDOutage {
    /// `TimeSource.nanoseconds` when the first connection was lost.
    private let since: UInt64
    /// Connections that are lost.
    private var away = 0
    /// Requests that have waited.
    private var waited = 0
    private var hasFailed = false
    /// Writes that the server had answered, and no flush after them.
    private let unflushed: UInt64
    /// Why what was found in the server's place was not used.
    private var refusal = ""

    init(since: UInt64, unflushed: UInt64) {
        self.since = since
        self.unflushed = unflushed
    }

    /// Whether no connection is lost any more.
    var isOver: Bool { away == 0 }

    /// One more connection is lost; what is to be said of it.
    mutating func lost(_ reason: String, _ delayMilliseconds: UInt64) -> String? {
        away += 1
        guard away == 1, !hasFailed else { return nil }
        let limit =
            delayMilliseconds == 0
            ? "requests fail until it is back" : "requests wait for it, \(seconds(delayMilliseconds)) at most"
        return "the server is away (\(reason)); \(limit)"
    }

    /// What is there is not the disk that it was.
    mutating func refused(_ reason: String) -> String? {
        if refusal == reason { return nil }
        refusal = reason
        return "another disk is in its place, and not used: \(reason)"
    }

    /// Requests of one connection have waited long enough.
    mutating func gaveUp(_ requests: Int, _ delayMilliseconds: UInt64) -> String? {
        waited += requests
        defer { hasFailed = true }
        if hasFailed || delayMilliseconds == 0 { return nil }
        return "the server is not back after \(seconds(delayMilliseconds)): requests fail until it is"
    }

    /// A connection is there again, and answers; `requests` have waited for it.
    mutating func back(_ requests: Int, now: UInt64) -> String? {
        left()
        waited += requests
        guard away == 0 else { return nil }
        let fate = hasFailed ? "failed or waited" : "waited"
        let kept = unflushed > 0 ? "; \(unflushed) writes since the last flush are as safe as it kept them" : ""
        return "the server is back after \(seconds((now &- since) / 1_000_000)); \(waited) requests \(fate)\(kept)"
    }

    /// A lost connection is not wanted any more.
    mutating func left() { away = max(0, away - 1) }

    /// `1.4 s`.
    private func seconds(_ milliseconds: UInt64) -> String {
        let tenths = (milliseconds + 50) / 100
        return tenths % 10 == 0 ? "\(tenths / 10) s" : "\(tenths / 10).\(tenths % 10) s"
    }
}
