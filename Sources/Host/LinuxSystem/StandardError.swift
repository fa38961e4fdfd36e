// Where a process says what is wrong. Often a pipe to somebody else's program, which may have stopped reading: whoever
// serves devices must not wait for it.

import Glibc
import Synchronization

/// This process's standard error.
package enum StandardError {
    /// Milliseconds that a line waits for room, while there has always been some.
    private static let patience: Int32 = 100
    /// A pipe that has room has room for so much at once (`PIPE_BUF`).
    private static let pieceByteCount = 4096
    /// Whether the last line found no room: the next ones wait for none.
    private static let isStuck = Atomic<Bool>(false)

    /// Writes one line. One that nobody takes is lost: a log that cannot be written is no reason to stop (attacks.md
    /// L19).
    package static func write(_ line: String) {
        var rest = Array((line + "\n").utf8)[...]
        while !rest.isEmpty {
            guard hasRoom() else { return }
            let piece = rest.prefix(pieceByteCount)
            do throws(Errno) { try Descriptor.writeAll(Array(piece), to: STDERR_FILENO) } catch { return }
            rest = rest.dropFirst(piece.count)
        }
    }

    /// Whether it is what systemd has connected to its journal (systemd.exec(5), JOURNAL_STREAM).
    /// - Parameter named: the device's and the file's number, with a colon between them.
    package static func isJournal(_ named: String) -> Bool {
        let parts = named.split(separator: ":").map { UInt64($0) }
        var status = stat()
        // SAFETY: the kernel fills in the one structure.
        guard parts.count == 2, unsafe fstat(STDERR_FILENO, &status) == 0 else { return false }
        return parts[0] == UInt64(status.st_dev) && parts[1] == UInt64(status.st_ino)
    }

    private static func hasRoom() -> Bool {
        var entries = [pollfd(fd: STDERR_FILENO, events: Int16(POLLOUT), revents: 0)]
        let wait = isStuck.load(ordering: .relaxed) ? 0 : patience
        let hasRoom = ((try? waitForEvents(&entries, milliseconds: wait)) ?? 0) > 0
        isStuck.store(!hasRoom, ordering: .relaxed)
        return hasRoom
    }
}
