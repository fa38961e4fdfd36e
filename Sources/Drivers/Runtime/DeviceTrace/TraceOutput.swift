// Where a trace goes: a file, a pipe, a terminal. A pipe that nobody empties must not keep a trace from ending when it
// is asked to.

import Glibc
import LinuxSystem

/// Writes bytes out, and knows when to stop trying.
public struct TraceOutput {
    /// How writing ended.
    public enum Written: Equatable, Sendable {
        case all
        /// Nobody reads any more.
        case closed
        /// Asked to stop while the reader took nothing.
        case stopped
    }

    private let descriptor: Descriptor
    private let isPipe: Bool

    /// Writes to `descriptor`.
    public init(_ descriptor: Descriptor) {
        self.descriptor = descriptor
        isPipe = [.pipe, .socket].contains(FileSystem.kind(of: descriptor))
    }

    /// For a wait that should also end when nobody reads any more; nil for a file.
    public var watched: Int32? { isPipe ? descriptor.rawValue : nil }

    /// Writes all of `bytes`.
    /// - Parameters:
    ///   - stop: readable when the trace is to end.
    ///   - patience: milliseconds that a reader who takes nothing is given once `stop` is readable.
    public func write(_ bytes: [UInt8], stop: Int32, patience: Int32 = 0) throws(Errno) -> Written {
        var done = 0
        while done < bytes.count {
            if isPipe, try !waitWritable(stop, patience) { return .stopped }
            // A pipe that is writable takes PIPE_BUF bytes without waiting; the file's flags are not ours to change.
            let count = isPipe ? min(bytes.count - done, 4096) : bytes.count - done
            do throws(Errno) {
                done += try descriptor.write(bytes[done..<done + count])
            } catch {
                switch error {
                case .brokenPipe: return .closed
                case .wouldBlock: continue
                default: throw error
                }
            }
        }
        return .all
    }

    private func waitWritable(_ stop: Int32, _ patience: Int32) throws(Errno) -> Bool {
        var entries = [
            pollfd(fd: descriptor.rawValue, events: Int16(POLLOUT), revents: 0),
            pollfd(fd: stop, events: Int16(POLLIN), revents: 0),
        ]
        try waitForEvents(&entries, milliseconds: -1)
        if entries[0].revents != 0 { return true }
        entries.removeLast()
        return try waitForEvents(&entries, milliseconds: patience) > 0
    }
}
