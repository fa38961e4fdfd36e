// What the command says, and how it ends. Unbuffered: a pair's lines must be there before its COMMAND's first.

import LinuxSystem
import Synchronization

/// Why a subcommand ends early; `message` without the leading `causeway: `.
package struct Failure: Error, CustomStringConvertible {
    package var message: String?
    package var status: Int32
    /// The message; empty if there is none.
    package var description: String { message ?? "" }

    /// Something did not work.
    package init(_ message: String) {
        self.message = message
        status = 1
    }

    private init(message: String?, status: Int32) {
        self.message = message
        self.status = status
    }

    /// The command line makes no sense.
    package static func usage(_ message: String) -> Failure { Failure(message: message, status: 2) }

    /// A program that cannot be run, with env(1)'s statuses: 127, there is none; 126, it cannot be run.
    package static func cannotRun(_ program: String, _ reason: String, isThere: Bool) -> Failure {
        Failure(message: "\(program): cannot run it: \(reason)", status: isThere ? 126 : 127)
    }

    /// Ends with a status that says all.
    package static func silent(_ status: Int32) -> Failure { Failure(message: nil, status: status) }
}

/// Runs `body`; any error becomes a failure that says what it is about.
package func failing<R>(_ subject: String, _ body: () throws -> R) throws(Failure) -> R {
    do { return try body() } catch let failure as Failure { throw failure } catch {
        throw Failure("\(subject): \(error)")
    }
}

/// What became of what was printed.
package enum StandardOutput {
    /// Why a line could not be written, 0 while all could.
    fileprivate static let reason = Atomic<Int32>(0)

    /// Whether whoever read it has gone, or it takes nothing: more need not be said.
    package static var isLost: Bool { reason.load(ordering: .relaxed) != 0 }

    /// What has to be said of it at the end. A reader that had enough is no failure.
    package static var failure: Failure? {
        let error = Errno(reason.load(ordering: .relaxed))
        return error.rawValue == 0 || error == .brokenPipe ? nil : Failure("standard output: \(error)")
    }
}

/// One line on stdout; whoever does not want it is not asked twice.
package func printLine(_ text: String) {
    if StandardOutput.isLost { return }
    do throws(Errno) { try Descriptor.writeAll(Array((text + "\n").utf8), to: 1) } catch {
        StandardOutput.reason.store(error.rawValue, ordering: .relaxed)
    }
}

/// Nanoseconds in words for people: `12.4 ms`.
package func inMilliseconds(_ nanoseconds: UInt64) -> String {
    let tenths = (nanoseconds + 50_000) / 100_000
    return "\(tenths / 10).\(tenths % 10) ms"
}
