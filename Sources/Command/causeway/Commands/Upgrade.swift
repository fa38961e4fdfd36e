// causeway upgrade: has a running export become this program, while its front ends wait a moment.

import ArgumentParser
import CommandSupport
import FoundationEssentials
import Glibc
import LinuxSystem

struct Upgrade: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Has a running export go on as this build of causeway; its front ends notice a pause at most.",
        discussion: """
            Prints how long the front ends were kept waiting. The export keeps its process, its sockets and its COMMAND. What cannot go on \
            with it is refused, and the export goes on as it was. Within COMMAND neither option is needed.
            """)

    /// Names the export to COMMAND.
    static let variable = "CAUSEWAY_EXPORT"

    @Option(help: ArgumentHelp("The export's --socket-dir.", valueName: "dir")) var socketDir: String?
    @Option(help: ArgumentHelp("The export's --socket.", valueName: "path")) var socket: String?
    @Option(help: ArgumentHelp("Another program that it is to become.", valueName: "path")) var program: String?

    func validate() throws {
        guard socketDir == nil || socket == nil else { throw ValidationError("--socket and --socket-dir: one of them") }
    }

    func run() throws {
        let path = try place()
        let program = try absolute(try program ?? Executable.path())
        let export: Descriptor
        do throws(Errno) { export = try StreamSocket.connect(path: path) } catch {
            throw Failure(
                "upgrade: \(path): \([ENOENT, ECONNREFUSED].contains(error.rawValue) ? "no export is there" : "\(error)")")
        }
        switch try ask(export, path, program) {
        case .refused(let reason): throw Failure("upgrade: refused: \(reason)")
        case .done(let nanoseconds, let version):
            let tenths = (nanoseconds + 50000) / 100_000
            printLine("upgraded to causeway \(version): longest pause \(tenths / 10).\(tenths % 10) ms")
        }
    }

    private func place() throws(Failure) -> String {
        if let socketDir { return ExportUpgrade.path(in: try RunDirectory(socketDir).path) }
        if let socket { return ExportUpgrade.path(beside: socket) }
        guard let named = ProcessInfo.processInfo.environment[Self.variable] else {
            throw .usage("upgrade: which export? Give its --socket-dir or its --socket")
        }
        return named
    }

    private func absolute(_ program: String) throws(Failure) -> String {
        do throws(Errno) { return try FileSystem.resolved(program) } catch { throw Failure("upgrade: \(program): \(error)") }
    }

    private func ask(_ export: Descriptor, _ path: String, _ program: String) throws(Failure) -> UpgradeReply {
        do throws(Errno) {
            let line = Array("\(program)\n".utf8)
            guard try StreamSocket.send(export.rawValue, line[...], wait: true) == line.count else { throw Errno(EPIPE) }
            var said = ""
            while !said.hasSuffix("\n") {
                let more = try StreamSocket.receive(export.rawValue, capacity: 4096, wait: true)
                if more.isEmpty { throw Errno(ECONNRESET) }
                said += String(decoding: more, as: UTF8.self)
            }
            guard let reply = UpgradeReply(String(said.dropLast())) else { throw Errno(EPROTO) }
            return reply
        } catch { throw Failure("upgrade: \(path): the export has ended meanwhile (\(error)); see what it printed") }
    }
}
