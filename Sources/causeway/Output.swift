// What the command says, and how it ends. Unbuffered: a pair's lines must be there before its COMMAND's first.

import Glibc

/// Why a subcommand ends early; `message` without the leading `causeway: `.
struct Failure: Error {
    var message: String?
    var status: Int32

    /// Something did not work.
    init(_ message: String) {
        self.message = message
        status = 1
    }

    private init(message: String?, status: Int32) {
        self.message = message
        self.status = status
    }

    /// The command line makes no sense.
    static func usage(_ message: String) -> Failure { Failure(message: message, status: 2) }

    /// Ends with a status that says all.
    static func silent(_ status: Int32) -> Failure { Failure(message: nil, status: status) }
}

/// Runs `body`; any error becomes a failure that says what it is about.
func failing<R>(_ subject: String, _ body: () throws -> R) throws(Failure) -> R {
    do { return try body() } catch let failure as Failure { throw failure } catch {
        throw Failure("\(subject): \(error)")
    }
}

/// One line on stdout.
func printLine(_ text: String) { writeLine(text, to: 1) }

/// One message on stderr, `causeway: blkback: disk.img: what and why`.
func complain(_ message: String) { writeLine("causeway: \(message)", to: 2) }

func writeLine(_ text: String, to descriptor: Int32) {
    var bytes = ArraySlice((text + "\n").utf8)
    while !bytes.isEmpty {
        let count = unsafe bytes.withUnsafeBytes { buffer in unsafe write(descriptor, buffer.baseAddress, buffer.count)
        }
        if count < 0 && errno != EINTR { return }
        bytes = bytes.dropFirst(max(0, count))
    }
}

func exit(with status: Int32) -> Never { Glibc.exit(status) }
