// What the command tells while it runs: through swift-log, to standard error. How much is asked for, systemd's journal
// is told how grave each line is, and a terminal shows it in colour.

import FoundationEssentials
import Glibc
import LinuxSystem
import Logging
import Synchronization

/// The command's log.
package enum Log {
    /// The least that is told; `begin` sets it.
    private static let least = Atomic<Int>(rank(.info))
    private static let logger = Logger(label: "causeway") { _ in StandardErrorLog() }

    /// Tells only what is as grave as this, or graver.
    package static func tell(from level: Logger.Level) { least.store(rank(level), ordering: .relaxed) }

    /// Whether lines of a level are told.
    package static func tells(_ level: Logger.Level) -> Bool { rank(level) >= least.load(ordering: .relaxed) }

    package static func write(_ level: Logger.Level, _ message: String) {
        if tells(level) { logger.log(level: level, "\(message)") }
    }

    private static func rank(_ level: Logger.Level) -> Int { Logger.Level.allCases.firstIndex(of: level) ?? 0 }
}

/// One message on stderr, `causeway: blkback: disk.img: what and why`: something is wrong, or is about to be.
package func complain(_ message: String) { Log.write(.warning, message) }

/// One line on stderr that is no complaint.
package func note(_ message: String) { Log.write(.info, message) }

/// swift-log's way to standard error.
private struct StandardErrorLog: LogHandler {
    var metadata: Logger.Metadata = [:]
    /// `Log` decides.
    var logLevel = Logger.Level.trace

    subscript(metadataKey key: String) -> Logger.Metadata.Value? {
        get { metadata[key] }
        set { metadata[key] = newValue }
    }

    func log(event: LogEvent) {
        let look = Look.own
        for line in "causeway: \(event.message)".split(separator: "\n", omittingEmptySubsequences: false) {
            StandardError.write(look.decorated(String(line), event.level))
        }
    }
}

/// How lines look where they go.
private enum Look {
    case plain
    /// Before each line its priority (sd-daemon(3)).
    case journal
    case coloured

    /// Looked at once.
    static let own: Look = {
        let environment = ProcessInfo.processInfo.environment
        if let named = environment["JOURNAL_STREAM"], StandardError.isJournal(named) { return .journal }
        return isatty(STDERR_FILENO) == 1 && environment["NO_COLOR"] == nil ? .coloured : .plain
    }()

    func decorated(_ line: String, _ level: Logger.Level) -> String {
        switch self {
        case .plain: line
        case .journal: "<\(level.priority)>\(line)"
        case .coloured: level.colour.map { "\u{1B}[\($0)m\(line)\u{1B}[0m" } ?? line
        }
    }
}

extension Logger.Level {
    /// syslog's number for it.
    fileprivate var priority: Int {
        switch self {
        case .trace, .debug: 7
        case .info: 6
        case .notice: 5
        case .warning: 4
        case .error: 3
        case .critical: 2
        }
    }

    /// A terminal's number for it; nil: as everything else.
    fileprivate var colour: Int? {
        switch self {
        case .trace, .debug: 2
        case .info, .notice: nil
        case .warning: 33
        case .error, .critical: 31
        }
    }
}
